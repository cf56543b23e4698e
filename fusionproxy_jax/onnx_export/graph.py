"""Small vocabulary for rewriting ONNX graphs in place (onnx_ir)."""

from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import Sequential, common


def constant(value: ir.Value | None) -> np.ndarray | None:
    """Returns the number a value always has, or None."""
    if value is None or value.const_value is None:
        return None
    return value.const_value.numpy()


def only_user(value: ir.Value) -> ir.Node | None:
    """Returns the one node that reads `value`, once; None if there are more or none."""
    uses = value.uses()
    if len(uses) != 1 or value.is_graph_output():
        return None
    return uses[0].node


def made_by(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """Returns the node that makes `value` if it is an `op_type`."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == op_type else None


def attribute(node: ir.Node, name: str) -> Any:
    """Returns the value of an attribute, or None."""
    found = node.attributes.get(name)
    return None if found is None else found.value


def dense_parameters(gemm: ir.Node) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns weights [i, o] and bias [o] of a plain dense layer; None of others."""
    if gemm.op_type != "Gemm" or len(gemm.inputs) != 3:
        return None
    if attribute(gemm, "transA") or attribute(gemm, "transB"):
        return None
    scales = (attribute(gemm, "alpha"), attribute(gemm, "beta"))
    weights, bias = (constant(value) for value in gemm.inputs[1:])
    if weights is None or bias is None or any(s not in (None, 1.0) for s in scales):
        return None
    return (weights, bias) if bias.shape == weights.shape[1:] else None


def attributes_of(node: ir.Node) -> dict[str, Any]:
    """Returns all attributes by name."""
    return {name: found.value for name, found in node.attributes.items()}


class Insertion:
    """Writes nodes in front of a node, or at the end of a graph.

    Called with an operator's name, its inputs (values, or arrays to be stored) and its
    attributes; returns the new value.
    """

    def __init__(self, graph: ir.Graph, *, before: ir.Node | None = None) -> None:
        """Nodes go before `before`, at the end if it is None."""
        self._graph = graph
        self._before = before

    def __call__(
        self, op_type: str, *inputs: ir.Value | np.ndarray, **attributes: Any
    ) -> ir.Value:
        """Adds one node with one output."""
        values = [self._store(x) if isinstance(x, np.ndarray) else x for x in inputs]
        node = ir.node(op_type, values, attributes)
        if self._before is None:
            self._graph.append(node)
        else:
            self._graph.insert_before(self._before, node)
        return node.outputs[0]

    def _store(self, array: np.ndarray) -> ir.Value:
        count = len(self._graph.initializers)
        while (name := f"constant_{count}") in self._graph.initializers:
            count += 1
        value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
        value.shape = ir.Shape(array.shape)
        value.type = ir.TensorType(value.const_value.dtype)
        self._graph.register_initializer(value)
        return value


def replace(old: ir.Value, new: ir.Value) -> None:
    """Makes every reader of `old` read `new`, which is known to have the same shape."""
    if new.shape is None:
        new.shape, new.type = old.shape, old.type
    old.replace_all_uses_with(new, replace_graph_outputs=True)


def tidy(model: ir.Model) -> ir.Model:
    """Removes what is unused or stored twice."""
    return Sequential(
        common.RemoveUnusedNodesPass(),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.NameFixPass(),
        common.TopologicalSortPass(),
    )(model).model
