"""Every ONNX operator that can be evaluated, opsets 9 to 25.

Opsets after 22 changed none of them but the number types they take.
"""

from collections.abc import Mapping
from types import MappingProxyType

from fusionproxy_jax.panel.onnx_elementwise import ELEMENTWISE
from fusionproxy_jax.panel.onnx_linear import LINEAR
from fusionproxy_jax.panel.onnx_node import Operator
from fusionproxy_jax.panel.onnx_normalization import NORMALIZATION
from fusionproxy_jax.panel.onnx_pooling import POOLING
from fusionproxy_jax.panel.onnx_resize import RESIZING
from fusionproxy_jax.panel.onnx_shapes import SHAPES

OPSETS = range(9, 26)

OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {**ELEMENTWISE, **LINEAR, **NORMALIZATION, **POOLING, **RESIZING, **SHAPES}
)

# Inputs by position that shapes depend on: they must be known before any image is.
SHAPE_INPUTS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "ConstantOfShape": (0,),
        "Expand": (1,),
        "Pad": (1, 3),
        "ReduceMax": (1,),
        "ReduceMean": (1,),
        "ReduceSum": (1,),
        "Reshape": (1,),
        "Resize": (1, 2, 3),
        "Slice": (1, 2, 3, 4),
        "Split": (1,),
        "Squeeze": (1,),
        "Unsqueeze": (1,),
        "Upsample": (1,),
    }
)
