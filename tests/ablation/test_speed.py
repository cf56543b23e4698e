import dataclasses
import json

import pytest
from tiny_student import TINY

from fusionproxy_jax.ablation import speed
from fusionproxy_jax.ablation.speed import measure_speeds
from fusionproxy_jax.ablation.speed_file import read_speeds, student_key
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.complexity import (
    complexity,
    pair_shapes,
)
from fusionproxy_jax.models.variants import build_student

OTHER = dataclasses.replace(TINY, widths=(8, 24))


def test_a_student_is_timed_and_counted_once(tmp_path, monkeypatch):
    found = measure_speeds({"row_a": TINY}, tmp_path, size=(32, 48), num_rounds=2)
    assert found == read_speeds(tmp_path)
    assert found["size"] == [32, 48] and found["notes"] == []
    cost = found["students"][student_key(dataclasses.asdict(TINY))]
    counted = complexity(build_student(TINY), *pair_shapes(32, 48))
    assert cost["parameters"] == counted.parameters
    assert cost["frames_per_second"] > 0
    monkeypatch.setattr(speed, "_measure", None)
    assert measure_speeds({"row_i": TINY}, tmp_path, size=(32, 48)) == found


@pytest.mark.parametrize(
    "change", [{"students": {"a": TINY, "i": OTHER}}, {"size": (48, 32)}]
)
def test_all_are_timed_anew_beside_each_other_where_one_is_new(
    tmp_path, monkeypatch, change
):
    calls = []

    def measure(students, *, size, num_rounds):
        calls.append((list(students), size))
        return {name: {"parameters": 1} for name in students}, []

    monkeypatch.setattr(speed, "_measure", measure)
    first = {"students": {"a": TINY}, "workdir": tmp_path, "size": (32, 48)}
    measure_speeds(**first)
    found = measure_speeds(**{**first, **change})
    wanted = change.get("students", first["students"])
    assert calls[1] == (list(wanted), change.get("size", first["size"]))
    assert len(found["students"]) == len(wanted)


def test_what_cannot_be_exported_has_parameters_and_a_note(tmp_path, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("no such operator\nsecond line")

    monkeypatch.setattr("fusionproxy_jax.onnx_export.export.student_models", fail)
    found = measure_speeds({"row_a": TINY}, tmp_path, size=(32, 48))
    (cost,) = found["students"].values()
    assert cost["frames_per_second"] is None and cost["parameters"] > 0
    assert found["notes"] == ["row_a is not timed: no such operator"]


def test_nothing_that_can_be_timed_leaves_parameters_and_a_note(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise FusionProxyError("nothing was measured: no memory")

    monkeypatch.setattr(speed, "measure_candidates", fail)
    found = measure_speeds({"row_a": TINY}, tmp_path, size=(32, 48))
    (cost,) = found["students"].values()
    assert cost["frames_per_second"] is None and cost["parameters"] > 0
    assert found["notes"] == ["nothing was measured: no memory"]


def test_the_key_of_a_student_survives_json():
    values = dataclasses.asdict(TINY)
    assert student_key(json.loads(json.dumps(values))) == student_key(values)
    assert student_key(dataclasses.asdict(OTHER)) != student_key(values)
