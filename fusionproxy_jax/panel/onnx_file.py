"""Reading ONNX files into plain Python and NumPy; `onnx` is loaded only here."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.panel.onnx_node import OnnxNode

if TYPE_CHECKING:
    import onnx

Shape = tuple[int | None, ...]
"""None for a size that the file leaves open."""


class OnnxFile:
    """One model. Weights are decoded when they are asked for."""

    def __init__(self, path: str | Path) -> None:
        """Reads the file, and weights that it keeps in files beside it.

        Raises:
            FusionProxyError: The file is missing, damaged, or no ONNX model.
        """
        import onnx

        self.path = Path(path)
        if not self.path.is_file():
            raise FusionProxyError(f"there is no ONNX file {path}")
        # Not the checker: it refuses files above 2 GB.
        try:
            self._model = onnx.load(self.path)
        # The parser's and the reader's exceptions share no base class.
        except Exception as error:
            raise FusionProxyError(self._damaged()) from error
        graph = self._model.graph
        if not graph.node:
            raise FusionProxyError(self._damaged())
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.opset = max(
            [i.version for i in self._model.opset_import if not _foreign(i.domain)],
            default=0,
        )
        self.nodes = tuple(_node(node, self.opset) for node in graph.node)
        self.outputs = tuple(info.name for info in graph.output)
        # Old files list initializers among the inputs.
        self._inputs = {
            info.name: info
            for info in graph.input
            if info.name not in self._initializers
        }

    def _damaged(self) -> str:
        return f"{self.path} is damaged, lacks a file of weights, or is no ONNX file"

    def input_shape(self, name: str) -> Shape | None:
        """Returns the shape of an input, None unless it takes floating numbers."""
        from onnx.helper import tensor_dtype_to_np_dtype

        info = self._inputs.get(name)
        kind = info.type.tensor_type.elem_type if info is not None else 0
        if not kind or not _floating(tensor_dtype_to_np_dtype(kind)):
            return None
        return _shape(info)

    def constant(self, name: str) -> np.ndarray | None:
        """Returns an initializer, None if there is none of that name."""
        from onnx.numpy_helper import to_array

        tensor = self._initializers.get(name)
        return None if tensor is None else to_array(tensor)

    def feature_maps(self) -> dict[str, Shape]:
        """Returns what may be tapped: tensors [1, c, h, w], in the file's order."""
        import onnx

        try:
            graph = onnx.shape_inference.infer_shapes(self._model).graph
        # Inference is a convenience; a model too large for it can still be run.
        except Exception:
            return {}
        shapes = {
            info.name: _shape(info)
            for info in (*graph.value_info, *graph.output)
            if info.type.HasField("tensor_type")
        }
        return {
            name: shapes[name]
            for node in self.nodes
            for name in node.outputs
            if name in shapes and is_feature_map(shapes[name])
        }


def is_feature_map(shape: Shape) -> bool:
    """Returns whether a tensor can be tapped: [1, c, h, w] with more than one place."""
    if len(shape) != 4 or shape[0] not in (1, None):
        return False
    return shape[2:] != (1, 1)


def _foreign(domain: str) -> bool:
    return domain not in ("", "ai.onnx")


def _floating(dtype: np.dtype) -> bool:
    return jnp.issubdtype(dtype, jnp.floating)


def _shape(info: "onnx.ValueInfoProto") -> Shape:
    sizes = info.type.tensor_type.shape.dim
    return tuple(size.dim_value if size.dim_value > 0 else None for size in sizes)


def _node(proto: "onnx.NodeProto", opset: int) -> OnnxNode:
    from onnx.helper import tensor_dtype_to_np_dtype

    attributes = {each.name: _attribute(each) for each in proto.attribute}
    if proto.op_type == "Cast":
        attributes["to"] = tensor_dtype_to_np_dtype(attributes["to"])
    foreign = _foreign(proto.domain)
    return OnnxNode(
        operator=f"{proto.domain}::{proto.op_type}" if foreign else proto.op_type,
        name=proto.name or next(filter(None, proto.output), ""),
        inputs=tuple(proto.input),
        outputs=tuple(proto.output),
        attributes=attributes,
        opset=opset,
    )


def _attribute(proto: "onnx.AttributeProto") -> Any:
    import onnx

    value = onnx.helper.get_attribute_value(proto)
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (int, float)):
        return value
    if proto.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS):
        return tuple(value)
    # Graphs, lists of strings and the like: of operators that are not evaluated.
    return onnx.AttributeProto.AttributeType.Name(proto.type)
