"""Opens an ONNX file in one of two runtimes on the CPU, with options to study.

Spinning is stopped when a run ends: idle threads of one candidate would otherwise take
the processors from the next for some milliseconds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.image_graph import GraphValue

Runtime = Literal["onnxruntime", "openvino"]
GraphLevel = Literal["basic", "extended", "all"]

_ORT_DTYPES = {"float": "float32"}
_OPENVINO_DTYPES = {"f32": "float32", "f16": "float16", "u8": "uint8"}


@dataclass(frozen=True, kw_only=True)
class RunnerOptions:
    """How a runtime is set up.

    Attributes:
        threads: Threads within one operation.
        arena: ONNX Runtime keeps freed memory for the next run.
        graph_level: How far ONNX Runtime rewrites the graph.
    """

    threads: int
    arena: bool = True
    graph_level: GraphLevel = "all"


@dataclass(frozen=True)
class OpenGraph:
    """A graph ready to run; `run` takes feeds and the names of the outputs wanted."""

    inputs: tuple[GraphValue, ...]
    outputs: tuple[GraphValue, ...]
    run: Callable[[Mapping[str, np.ndarray], Sequence[str]], list[np.ndarray]]


def open_graph(path: Path, *, runtime: Runtime, options: RunnerOptions) -> OpenGraph:
    """Returns the graph of `path`, opened.

    Raises:
        FusionProxyError: No such file, not a graph this runtime opens, a runtime that
            is not installed, or options that are not its own.
    """
    if not path.is_file():
        raise FusionProxyError(f"there is no ONNX file {path}")
    open_file = {"onnxruntime": open_onnxruntime, "openvino": _open_openvino}[runtime]
    try:
        return open_file(path, options)
    except FusionProxyError:
        raise
    # The exceptions of neither runtime share a base class below Exception.
    except Exception as error:
        raise FusionProxyError(
            f"{path} is damaged or no ONNX file that {runtime} can open "
            f"({first_line(error)}); export it again"
        ) from error


def first_line(error: BaseException) -> str:
    """Returns the first line of an exception's message that says something."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next(filter(None, lines), type(error).__name__)[:200]


def open_onnxruntime(model: Path | bytes, options: RunnerOptions) -> OpenGraph:
    """Returns the graph of a file or of its bytes; raises what ONNX Runtime raises."""
    # What it warns about on stderr helps nobody here; errors are raised.
    onnxruntime.set_default_logger_severity(4)
    levels = onnxruntime.GraphOptimizationLevel
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.enable_cpu_mem_arena = options.arena
    settings.graph_optimization_level = getattr(
        levels, f"ORT_ENABLE_{options.graph_level.upper()}"
    )
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(
        model, settings, providers=["CPUExecutionProvider"]
    )

    def value(node: Any) -> GraphValue:
        element = node.type.removeprefix("tensor(").removesuffix(")")
        # A free axis has a name, or none.
        shape = (length if isinstance(length, int) else None for length in node.shape)
        return GraphValue(node.name, _ORT_DTYPES.get(element, element), tuple(shape))

    return OpenGraph(
        tuple(map(value, session.get_inputs())),
        tuple(map(value, session.get_outputs())),
        lambda feeds, names: session.run(names, feeds),
    )


def _open_openvino(path: Path, options: RunnerOptions) -> OpenGraph:
    if not options.arena or options.graph_level != "all":
        raise FusionProxyError(
            "openvino has no --no-arena and no --graph-level; leave them away or use "
            "--runtime onnxruntime"
        )
    try:
        import openvino
    except ImportError as error:
        raise FusionProxyError(
            "the runtime openvino is not installed; run pip install "
            "'fusionproxy-jax[openvino]'"
        ) from error
    settings = {
        "INFERENCE_NUM_THREADS": options.threads,
        "PERFORMANCE_HINT": "LATENCY",
        # Its own choice is bfloat16 where the processor has it.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", settings)
    request = compiled.create_infer_request()

    def value(port: Any) -> GraphValue:
        element = port.get_element_type().get_type_name()
        shape = port.get_partial_shape()
        lengths = (
            [None if axis.is_dynamic else axis.get_length() for axis in shape]
            if shape.rank.is_static
            else []
        )
        dtype = _OPENVINO_DTYPES.get(element, element)
        return GraphValue(port.get_any_name(), dtype, tuple(lengths))

    def run(feeds: Mapping[str, np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        # Inputs are read in place and results copied, as ONNX Runtime does both.
        results = request.infer(dict(feeds), share_inputs=True)
        return [results[name] for name in names]

    return OpenGraph(
        tuple(map(value, compiled.inputs)), tuple(map(value, compiled.outputs)), run
    )
