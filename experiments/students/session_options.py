"""What ONNX Runtime's session options cost or save a student on this machine.

A student runs alone, then takes turns with a second network in the same process, as
with a detector; both are timed, three times over, and medians of all rounds are told.
Arguments: ONNX file of the student, of the other.

    python experiments/students/session_options.py NANO_camera.onnx BASE_camera.onnx
"""

import sys

import onnxruntime

from fusionproxy_jax.evaluation.graph_images import camera_noise
from fusionproxy_jax.evaluation.latency import measure_rounds, summarize
from fusionproxy_jax.runtime.cores import num_physical_cores

SPINNING = "session.intra_op.allow_spinning"
STOP_SPINNING = "session.force_spinning_stop"
LEVELS = onnxruntime.GraphOptimizationLevel

# Attributes of the session options, and entries of its configuration.
OPTIONS = {
    "as installed": ({}, {}),
    "spinning ends with the run": ({}, {STOP_SPINNING: "1"}),
    "no spinning": ({}, {SPINNING: "0"}),
    "no memory arena": ({"enable_cpu_mem_arena": False}, {STOP_SPINNING: "1"}),
    "no memory pattern": ({"enable_mem_pattern": False}, {STOP_SPINNING: "1"}),
    "graph level extended": (
        {"graph_optimization_level": LEVELS.ORT_ENABLE_EXTENDED},
        {STOP_SPINNING: "1"},
    ),
    "graph level basic": (
        {"graph_optimization_level": LEVELS.ORT_ENABLE_BASIC},
        {STOP_SPINNING: "1"},
    ),
    "one thread": ({"intra_op_num_threads": 1}, {STOP_SPINNING: "1"}),
}


def _call(path: str, attributes: dict, entries: dict):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = num_physical_cores()
    options.inter_op_num_threads = 1
    for name, value in attributes.items():
        setattr(options, name, value)
    for name, value in entries.items():
        options.add_session_config_entry(name, value)
    session = onnxruntime.InferenceSession(
        path, options, providers=["CPUExecutionProvider"]
    )
    visible, infrared = camera_noise(480, 640)
    feeds = {"visible": visible[None], "infrared": infrared[None, ..., None]}
    return lambda: session.run(["fused"], feeds)


def main(student: str, other: str) -> None:
    """Times both networks for each set of options of both; sets take turns too."""
    times = {name: ([], [], []) for name in OPTIONS}
    for _ in range(3):
        for name, options in OPTIONS.items():
            alone = measure_rounds({"student": _call(student, *options)})
            turns = measure_rounds(
                {"student": _call(student, *options), "other": _call(other, *options)},
                num_rounds=10,
            )
            parts = (alone["student"], turns["student"], turns["other"])
            for kept, new in zip(times[name], parts, strict=True):
                kept.extend(new)
    print(f"{'options of both':<30}{'alone ms':>10}{'in turns ms':>13}{'other ms':>10}")
    for name, kept in times.items():
        alone, turns, others = (summarize(values).p50_ms for values in kept)
        print(f"{name:<30}{alone:>10.1f}{turns:>13.1f}{others:>10.1f}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
