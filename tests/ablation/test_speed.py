import dataclasses
import json

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


def test_students_are_timed_beside_each_other_once(tmp_path, monkeypatch):
    students = {"row_a": TINY, "row_i": OTHER}
    found = measure_speeds(students, tmp_path, size=(32, 48), num_rounds=2)
    assert found == read_speeds(tmp_path)
    assert found["size"] == [32, 48] and found["notes"] == []
    for config in students.values():
        cost = found["students"][student_key(dataclasses.asdict(config))]
        counted = complexity(build_student(config), *pair_shapes(32, 48))
        assert cost["parameters"] == counted.parameters
        assert cost["frames_per_second"] > 0
    monkeypatch.setattr(speed, "_measure", None)
    assert measure_speeds({"row_i": OTHER}, tmp_path, size=(32, 48)) == found


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
