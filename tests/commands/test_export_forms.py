import pytest
from tiny_deployed import CONVOLUTIONAL, float32_models, params, write_pairs

from fusionproxy_jax import cli
from fusionproxy_jax.errors import FusionProxyError


@pytest.fixture(autouse=True)
def student(monkeypatch):
    run = {
        "config": {"data": {"sources": []}},
        "cache_config": "{}",
        "step": 20,
        "code_version": "1",
        "jax_version": "2",
    }
    monkeypatch.setattr(
        "fusionproxy_jax.training.checkpoint.load_student",
        lambda workdir: (CONVOLUTIONAL, params(), run),
    )
    # Compared with Flax in other tests.
    monkeypatch.setattr(
        "fusionproxy_jax.onnx_export.deployment.checked_models",
        lambda *_: (float32_models(), {}),
    )


def test_all_forms_are_exported_and_told(tmp_path, capsys):
    pairs, out = write_pairs(tmp_path / "scenes"), tmp_path / "out"
    cli.run(
        ["export", "--workdir", "run", "--out", str(out), "--name", "light"]
        + ["--precision", "float16", "int8", "--size", "48x64"]
        + ["--calibration", str(pairs), "--calibration-pairs", "2"]
    )
    files = {path.name for path in out.iterdir()}
    assert files == {
        f"light_{precision}{camera}{size}.onnx"
        for precision in ("float16", "int8")
        for camera in ("", "_camera")
        for size in ("", "_48x64")
    } | {"light.safetensors"}
    told = capsys.readouterr().out
    assert all(f"{out / file}" in told for file in files)
    assert told.count("PSNR") + told.count("no difference") == len(files) - 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--precision", "int8"], "--calibration DIR"),
        (["--precision", "int8", "--calibration", "none"], "none"),
        (["--calibration", "PAIRS"], "for int8 only"),
        (["--size", "8x8"], "size '8x8' is not allowed"),
        (
            ["--precision", "int8", "--calibration", "PAIRS", "--min-psnr", "90"],
            r"\d dB from the float32 form .* 90 dB are wanted",
        ),
    ],
)
def test_what_cannot_be_exported_writes_nothing(tmp_path, arguments, words):
    pairs, out = write_pairs(tmp_path / "scenes", num_pairs=2), tmp_path / "out"
    given = [str(pairs) if word == "PAIRS" else word for word in arguments]
    with pytest.raises(FusionProxyError, match=words):
        cli.run(
            ["export", "--workdir", "run", "--out", str(out), "--name", "light", *given]
        )
    assert not out.exists() or not list(out.iterdir())
