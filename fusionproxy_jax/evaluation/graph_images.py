"""From a camera's images to a graph's tensors and back, in NumPy.

The camera gives uint8: visible RGB [h, w, 3] and infrared [h, w]; wanted back is uint8
RGB [h, w, 3]. Floats are in [0, 1], the usual range: what a graph of another range
makes of them is no picture, but takes as long.
"""

import numpy as np
from PIL import Image

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.image_graph import ImageGraph, ImageInput
from fusionproxy_jax.runtime.arrays import from_float


def camera_noise(height: int, width: int, *, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Returns a visible and an infrared image of independent pixels."""
    generator = np.random.default_rng(seed)
    return tuple(
        generator.integers(0, 256, shape, np.uint8)
        for shape in ((height, width, 3), (height, width))
    )


def to_tensors(
    graph: ImageGraph, visible: np.ndarray, infrared: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns what each input of `graph` is fed, of batch 1."""
    return {
        image.name: _tensor(image, _channels(image, visible, infrared))
        for image in graph.inputs
    }


def from_tensor(
    graph: ImageGraph, fused: np.ndarray, visible: np.ndarray
) -> np.ndarray:
    """Returns the graph's output as uint8 RGB [h, w, 3].

    A grey result takes the visible image's colour, as methods that fuse luminance do.

    Raises:
        FusionProxyError: The output is no image of the visible image's size.
    """
    image = _channels_last(graph, fused, visible.shape[:2])
    if image.dtype != np.uint8:
        image = from_float(image.astype(np.float32, copy=False), np.dtype(np.uint8))
    if image.shape[2] == 3:
        return np.ascontiguousarray(image)
    _, *chroma = Image.fromarray(visible).convert("YCbCr").split()
    grey = Image.fromarray(np.ascontiguousarray(image[..., 0]))
    return np.asarray(Image.merge("YCbCr", (grey, *chroma)).convert("RGB"))


def _channels(
    image: ImageInput, visible: np.ndarray, infrared: np.ndarray
) -> np.ndarray:
    """Returns uint8 [h, w, channels]."""
    if image.role == "infrared":
        return np.repeat(infrared[..., None], image.channels, axis=2)
    if image.channels in (1, 2):
        visible = np.asarray(Image.fromarray(visible).convert("L"))[..., None]
    if image.role == "both":
        return np.concatenate([visible, infrared[..., None]], axis=2)
    return visible


def _tensor(image: ImageInput, channels: np.ndarray) -> np.ndarray:
    if image.channels_first:
        channels = channels.transpose(2, 0, 1)
    if image.dtype == "uint8":
        return np.ascontiguousarray(channels)[None]
    # Not `astype`, which would keep the order of the camera's memory.
    tensor = np.ascontiguousarray(channels, np.float32)
    tensor /= np.float32(255)
    return tensor.astype(image.dtype, copy=False)[None]


def _channels_last(
    graph: ImageGraph, fused: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Returns the output [h, w, 1 or 3], whichever axis holds the channels."""
    image = fused[0] if fused.ndim == 4 else fused
    if image.ndim == 3:
        is_first = graph.inputs[0].channels_first
        layouts = [image.transpose(1, 2, 0), image]
        for layout in layouts if is_first else layouts[::-1]:
            if layout.shape[:2] == size and layout.shape[2] in (1, 3):
                return layout
    raise FusionProxyError(
        f"{graph.source} gives {graph.output} of shape {list(fused.shape)} for images "
        f"of {size[0]}x{size[1]}; a fused image has that size and 1 or 3 channels"
    )
