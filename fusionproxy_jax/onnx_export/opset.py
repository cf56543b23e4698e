"""Rewrites a graph of opset 20 to opset 17, the newest that onnx2torch reads.

Only what the exporter emits is covered; `onnx.checker` rejects the rest.
"""

import math

import numpy as np
import onnx_ir as ir

from fusionproxy_jax.onnx_export.graph import Insertion, constant, replace

OPSET = 17
# IR version that appeared with opset 17: older runtimes refuse newer ones.
IR_VERSION = 8

_REDUCTIONS = {
    f"Reduce{name}"
    for name in ("Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSum")
}


def _reduction_axes_to_attribute(node: ir.Node) -> None:
    """Axes were an attribute of all reductions but ReduceSum before opset 18."""
    if len(node.inputs) < 2 or node.inputs[1] is None:
        return
    axes = constant(node.inputs[1])
    if axes is None:
        raise NotImplementedError(f"{node.op_type} over axes computed in the graph")
    node.attributes["axes"] = ir.AttrInt64s("axes", axes.tolist())
    node.resize_inputs(1)


def _gelu_to_erf(node: ir.Node, graph: ir.Graph) -> None:
    """X / 2 (1 + erf(x / sqrt 2)), in the order that ONNX Runtime fuses again."""
    add = Insertion(graph, before=node)
    x = node.inputs[0]
    erf = add("Erf", add("Div", x, np.array(math.sqrt(2.0), np.float32)))
    product = add("Mul", x, add("Add", erf, np.array(1.0, np.float32)))
    replace(node.outputs[0], add("Mul", product, np.array(0.5, np.float32)))
    graph.remove(node, safe=True)


def lower_opset(model: ir.Model) -> None:
    """Makes `model` valid in opset 17."""
    for node in list(model.graph):
        if node.op_type in _REDUCTIONS:
            _reduction_axes_to_attribute(node)
        elif node.op_type == "Gelu":
            _gelu_to_erf(node, model.graph)
        elif node.op_type == "Split":
            # Inferred from the number of outputs before opset 18.
            node.attributes.pop("num_outputs", None)
        node.version = None
    model.graph.opset_imports[""] = OPSET
    model.ir_version = IR_VERSION
