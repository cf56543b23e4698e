"""Where windows lie: padding of convolutions and poolings of ONNX, one axis at a time.

A pooling window may reach beyond the declared padding (`ceil_mode`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fusionproxy_jax.panel.onnx_node import OnnxNode


class Windows(NamedTuple):
    """All windows of one axis."""

    size: int
    """Elements of a window."""
    stride: int
    dilation: int
    low: int
    """Padding before the first element."""
    high: int
    """Padding that the file declares after the last element."""
    excess: int
    """More after that, so that the last window is whole."""
    count: int
    """Windows."""

    def members(self, length: int, *, padding: bool) -> np.ndarray:
        """Returns how many elements of each window exist, or are declared padding."""
        starts = np.arange(self.count) * self.stride - self.low
        places = starts[:, None] + np.arange(self.size) * self.dilation
        low, high = (self.low, self.high) if padding else (0, 0)
        return np.sum((places >= -low) & (places < length + high), axis=1)


def windows(
    node: OnnxNode, lengths: Sequence[int], sizes: Sequence[int]
) -> list[Windows]:
    """Returns the windows of each spatial axis.

    Args:
        node: Has the attributes strides, dilations, pads, auto_pad and ceil_mode.
        lengths: Of the spatial axes of the input.
        sizes: Of the kernel.
    """
    rank = len(sizes)
    strides = node.get("strides", (1,) * rank)
    dilations = node.get("dilations", (1,) * rank)
    pads = node.get("pads", (0,) * (2 * rank))
    automatic = node.get("auto_pad", "NOTSET")
    found = []
    for axis, (length, size) in enumerate(zip(lengths, sizes, strict=True)):
        stride, dilation = strides[axis], dilations[axis]
        span = (size - 1) * dilation + 1
        if automatic in ("SAME_UPPER", "SAME_LOWER"):
            count = -(-length // stride)
            total = max((count - 1) * stride + span - length, 0)
            low = total // 2 if automatic == "SAME_UPPER" else total - total // 2
            high = total - low
        else:
            padded = automatic != "VALID"
            low, high = (pads[axis], pads[rank + axis]) if padded else (0, 0)
            room = length + low + high - span
            if node.get("ceil_mode", 0):
                count = -(-room // stride) + 1
                # A window must not begin in the padding after the last element.
                count -= (count - 1) * stride >= length + low
            else:
                count = room // stride + 1
        needed = (count - 1) * stride + span - (length + low + high)
        found.append(Windows(size, stride, dilation, low, high, max(0, needed), count))
    return found
