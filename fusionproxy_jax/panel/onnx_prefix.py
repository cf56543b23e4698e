"""Reading the part of an ONNX file that some tensors need.

Whatever does not depend on the image is computed once, here. Of the result, floating
numbers become parameters; what shapes depend on stays NumPy, for JAX's are static.
"""

import difflib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.panel.onnx_file import OnnxFile
from fusionproxy_jax.panel.onnx_graph import OnnxGraph, evaluate
from fusionproxy_jax.panel.onnx_node import OnnxNode
from fusionproxy_jax.panel.onnx_operators import OPERATORS, OPSETS, SHAPE_INPUTS


def read_graph(path: str | Path, tensors: Sequence[str]) -> OnnxGraph:
    """Reads what `tensors` need of an ONNX file.

    Raises:
        FusionProxyError: The file is no ONNX model or of another opset; a tensor does
            not exist; the tensors need another input than one image [1, 3, h, w]; an
            operator is not implemented.
    """
    file = OnnxFile(path)
    if file.opset not in OPSETS:
        raise FusionProxyError(
            f"{path} is of ONNX opset {file.opset}; {OPSETS[0]} to {OPSETS[-1]} can "
            "be evaluated, and onnx.version_converter changes it"
        )
    producers = {name: n for n in file.nodes for name in n.outputs if name}
    for tensor in tensors:
        if tensor not in producers:
            raise FusionProxyError(_unknown(file, tensor, list(producers)))
    nodes = _ordered(tensors, producers)
    _refuse_unsupported(nodes, tensors, path)
    constants: dict[str, np.ndarray] = {}
    free = []
    for name in _inputs(nodes):
        constant = file.constant(name)
        if constant is not None:
            constants[name] = constant
        elif name not in producers:
            free.append(name)
    image, image_size = _image_input(file, free, tensors)
    digest = _digest(nodes, constants, (*tensors, image, *image_size))
    live = _fold(nodes, constants)
    read = {name for node in live for name in node.inputs}
    used = (read | set(tensors)) & constants.keys()
    shapes = _shape_names(live, producers)
    params = {
        name: constants[name].astype(np.float32)
        for name in sorted(used - shapes)
        if jnp.issubdtype(constants[name].dtype, jnp.floating)
    }
    return OnnxGraph(
        tensors=tuple(tensors),
        image=image,
        image_size=image_size,
        nodes=tuple(live),
        params=params,
        constants={name: constants[name] for name in sorted(used - params.keys())},
        digest=digest,
    )


def _fold(
    nodes: Sequence[OnnxNode], constants: dict[str, np.ndarray]
) -> list[OnnxNode]:
    """Evaluates nodes whose inputs are all constant; returns the others."""
    live = []
    for node in nodes:
        if all(name in constants for name in node.inputs if name):
            values = evaluate(node, constants)
            constants |= {name: np.asarray(value) for name, value in values.items()}
        else:
            live.append(node)
    return live


def _ordered(
    tensors: Sequence[str], producers: Mapping[str, OnnxNode]
) -> list[OnnxNode]:
    """Returns the nodes that `tensors` need, each after those it depends on."""
    ordered: dict[str, OnnxNode] = {}
    entered: set[str] = set()
    # A stack, not recursion: networks are deeper than Python's.
    stack = [(producers[name], False) for name in reversed(tensors)]
    while stack:
        node, ready = stack.pop()
        key = next(filter(None, node.outputs))
        if key in ordered:
            continue
        if ready:
            ordered[key] = node
            continue
        if key in entered:
            raise FusionProxyError(f"{node} depends on itself; the file is damaged")
        entered.add(key)
        stack.append((node, True))
        stack += [(producers[n], False) for n in node.inputs if n in producers]
    return list(ordered.values())


def _inputs(nodes: Sequence[OnnxNode]) -> Iterator[str]:
    yield from dict.fromkeys(name for n in nodes for name in n.inputs if name)


def _shape_names(
    nodes: Sequence[OnnxNode], producers: Mapping[str, OnnxNode]
) -> set[str]:
    """Returns the tensors that shapes follow from, back to where pixels end.

    Constants among them must not become parameters: a traced factor of a size would
    make the size traced. Exponents are no shapes, but a known one is a product.
    """
    names = {node.inputs[1] for node in nodes if node.operator == "Pow"}
    seen: set[str] = set()
    stack = [
        node.inputs[index]
        for node in nodes
        for index in SHAPE_INPUTS.get(node.operator, ())
        if index < len(node.inputs)
    ]
    while stack:
        name = stack.pop()
        if name in seen:
            continue
        seen.add(name)
        producer = producers.get(name)
        if producer is not None and producer.operator != "Shape":
            stack += producer.inputs
    return names | seen


def _image_input(
    file: OnnxFile, free: Sequence[str], tensors: Sequence[str]
) -> tuple[str, tuple[int | None, int | None]]:
    shape = file.input_shape(free[0]) if len(free) == 1 else None
    if (
        shape is None
        or len(shape) != 4
        or shape[0] not in (1, None)
        or shape[1] not in (3, None)
    ):
        given = ", ".join(f"{n} {list(file.input_shape(n) or ())}" for n in free)
        raise FusionProxyError(
            f"{', '.join(tensors)} of {file.path} needs the inputs {given or 'none'}; "
            "a backbone takes one image [1, 3, height, width] of floating numbers"
        )
    return free[0], (shape[2], shape[3])


def _refuse_unsupported(
    nodes: Sequence[OnnxNode], tensors: Sequence[str], path: str | Path
) -> None:
    read = {*tensors, *(name for node in nodes for name in node.inputs)}
    for node in nodes:
        if node.operator not in OPERATORS:
            raise FusionProxyError(
                f"{node} of {path} cannot be evaluated; choose a tensor before it, or "
                f"a network of {', '.join(sorted(OPERATORS))}"
            )
        if node.operator != "Split" and read & set(node.outputs[1:]) - {""}:
            raise node.refuse("a second output that is used", "the first")


def _unknown(file: OnnxFile, tensor: str, names: Sequence[str]) -> str:
    maps = file.feature_maps()
    near = difflib.get_close_matches(tensor, list(maps) or names, n=5, cutoff=0)
    described = ", ".join(
        f"{name} {list(maps[name])}" if name in maps else name for name in near
    )
    return f"{file.path} has no tensor {tensor!r}; the nearest names are {described}"


def _digest(
    nodes: Sequence[OnnxNode], constants: Mapping[str, np.ndarray], rest: tuple
) -> str:
    """Hashes what the file says, before anything is computed from it.

    What is folded may differ in its last bits between machines.
    """
    digest = hashlib.sha256(repr(rest).encode())
    for name in sorted(constants):
        digest.update(f"{name} {_text(constants[name])}".encode())
    for node in nodes:
        digest.update(repr((node.operator, node.opset, node.inputs)).encode())
        settings = [(key, _text(node.get(key))) for key in sorted(node.attributes)]
        digest.update(repr((node.outputs, settings)).encode())
    return digest.hexdigest()


def _text(value: object) -> str:
    if not isinstance(value, np.ndarray):
        return repr(value)
    content = hashlib.sha256(np.ascontiguousarray(value).tobytes())
    return f"{value.dtype} {value.shape} {content.hexdigest()}"
