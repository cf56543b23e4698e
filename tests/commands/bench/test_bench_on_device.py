import dataclasses
import functools
import json

import jax
import pytest
from tiny_student import TINY, random_params

from fusionproxy_jax import cli
from fusionproxy_jax.checkpoints.weights import save_weights
from fusionproxy_jax.commands.bench import on_device
from fusionproxy_jax.commands.describe import describe_student
from fusionproxy_jax.errors import FusionProxyError


@pytest.fixture(autouse=True)
def small_peaks(monkeypatch):
    small = functools.partial(
        on_device.measure_device_peaks,
        matrix_size=32,
        copied_bytes=2**16,
        num_rounds=2,
    )
    monkeypatch.setattr(on_device, "measure_device_peaks", small)


def _weights(tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_weights(path, random_params(), {"student": dataclasses.asdict(TINY)})
    return str(path)


def _on_device(tmp_path, *arguments):
    report = tmp_path / "report.json"
    options = ["--size", "32x48", "--rounds", "2", "--warmup", "1"]
    cli.run(
        [
            "bench",
            "latency",
            "--jax",
            _weights(tmp_path),
            *options,
            "--json",
            str(report),
        ]
        + list(arguments)
    )
    return json.loads(report.read_text())


def test_batches_of_a_student_are_timed_against_the_devices_peaks(tmp_path, capsys):
    report = _on_device(tmp_path, "--dtype", "bfloat16", "--batch", "1,3")
    assert report["dtype"] == "bfloat16" and "cpu" in report["jax"]
    peaks = report["device_peaks"]
    assert peaks["dtype"] == "bfloat16" and peaks["gigabytes_per_second"] > 0
    one, three = report["rows"]
    assert (one["batch_size"], three["batch_size"]) == (1, 3)
    counted = describe_student(TINY, 32, 48).multiply_adds
    assert (one["multiply_adds"], three["multiply_adds"]) == (counted, 3 * counted)
    for row in (one, three):
        assert (row["student"], row["size"]) == ("tiny", "32x48")
        # XLA's count includes the products.
        assert row["flops"] >= 2 * row["multiply_adds"]
        assert row["frames_per_second"] == pytest.approx(
            1000 * row["batch_size"] / row["p50_ms"]
        )
        assert row["gflop_per_second"] == pytest.approx(
            row["flops"] / row["p50_ms"] / 1e6
        )
        assert row["share_of_copy_peak"] == pytest.approx(
            row["gigabytes_per_second"] / peaks["gigabytes_per_second"]
        )
        assert row["peak_memory_bytes"] > 0
    printed = capsys.readouterr().out
    assert "bfloat16; matrix products reach" in printed
    assert len(printed.splitlines()) == 2 + 2


def test_a_batch_that_does_not_fit_is_left_out_with_its_reason(tmp_path, monkeypatch):
    compiled = on_device.ChainedCall

    def call(function, carry, *inputs):
        if len(carry) > 1:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory\nmore")
        return compiled(function, carry, *inputs)

    monkeypatch.setattr(on_device, "ChainedCall", call)
    report = _on_device(tmp_path, "--batch", "1,2")
    assert [row["batch_size"] for row in report["rows"]] == [1]
    assert report["notes"] == [
        "tiny is left out at 32x48, batch 2: RESOURCE_EXHAUSTED: out of memory"
    ]
    with pytest.raises(FusionProxyError, match="nothing was measured: tiny.*memory"):
        _on_device(tmp_path, "--batch", "2")


def test_two_students_of_one_name_are_refused(tmp_path):
    with pytest.raises(FusionProxyError, match="have the same name"):
        _on_device(tmp_path, "--jax", *[_weights(tmp_path)] * 2)
