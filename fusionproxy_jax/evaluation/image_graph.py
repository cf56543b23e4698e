"""What images an ONNX graph takes, found by its inputs: roles, layouts, sizes.

One or two inputs of rank 4, NCHW or NHWC, float or uint8, any names. Two inputs are a
visible and an infrared image of 1 or 3 channels. One input is the visible image (1 or
3), or both stacked: luminance and infrared (2), RGB and infrared (4).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fusionproxy_jax.errors import FusionProxyError

Size = tuple[int, int]
"""Height and width."""

_DTYPES = ("float32", "float16", "uint8")
_INFRARED = re.compile(r"(?:^|[^a-z])(?:ir|inf|infra|infrared|thermal|lwir|t)(?![a-z])")


@dataclass(frozen=True)
class GraphValue:
    """An input or output as a runtime tells it.

    Attributes:
        name: Its name in the graph.
        dtype: NumPy's name of the element type, or the runtime's own for others.
        shape: One length per axis; None where it is free.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        lengths = ["?" if length is None else str(length) for length in self.shape]
        return f"{self.name} ({self.dtype} [{', '.join(lengths)}])"


@dataclass(frozen=True)
class ImageInput:
    """One image input; `height` and `width` are None where any goes."""

    name: str
    dtype: str
    role: Literal["visible", "infrared", "both"]
    channels: int
    channels_first: bool
    height: int | None
    width: int | None

    def __str__(self) -> str:
        layout = "NCHW" if self.channels_first else "NHWC"
        return f"{self.name}: {self.role}, {self.channels} x {self.dtype} {layout}"


@dataclass(frozen=True)
class ImageGraph:
    """A graph that takes images and gives one.

    Attributes:
        source: What it is called in messages.
        inputs: In the order of the graph.
        output: Name of the output that is the fused image.
    """

    source: str
    inputs: tuple[ImageInput, ...]
    output: str

    @property
    def fixed_size(self) -> Size | None:
        """The only size the graph takes; None where it is free."""
        height, width = self.inputs[0].height, self.inputs[0].width
        return None if height is None or width is None else (height, width)

    def check_size(self, height: int, width: int) -> None:
        """Raises `FusionProxyError` for another size than a fixed one."""
        for image in self.inputs:
            fixed = (image.height or height, image.width or width)
            if fixed != (height, width):
                raise FusionProxyError(
                    f"{self.source} takes {fixed[0]}x{fixed[1]} only, not "
                    f"{height}x{width}; give its own size"
                )


def read_image_graph(
    source: str, inputs: Sequence[GraphValue], outputs: Sequence[GraphValue]
) -> ImageGraph:
    """Returns which images a graph of these inputs and outputs takes.

    Raises:
        FusionProxyError: The inputs are no images of a layout this module names.
    """
    names = [output.name for output in outputs]
    images = [_image(value) for value in inputs]
    if not names or not _are_images(images):
        raise FusionProxyError(
            f"{source} takes {', '.join(map(str, inputs)) or 'nothing'}; allowed are "
            "one or two images, float or uint8, NCHW or NHWC, of batch 1, the same "
            "size and 1, 3 or 4 channels, so export the graph with such inputs"
        )
    return ImageGraph(
        source,
        tuple(_with_roles(images)),
        "fused" if "fused" in names else names[0],
    )


def _image(value: GraphValue) -> ImageInput | None:
    """Returns the input as a visible image until roles are known; None: no image."""
    if len(value.shape) != 4 or value.dtype not in _DTYPES:
        return None
    batch, first, second, last = value.shape
    is_first, is_last = first in (1, 2, 3, 4), last in (1, 2, 3, 4)
    # Both would be an image of no size, neither is one of unknown channels.
    if batch not in (1, None) or is_first == is_last:
        return None
    height, width = (second, last) if is_first else (first, second)
    return ImageInput(
        value.name,
        value.dtype,
        "visible",
        channels=first if is_first else last,
        channels_first=is_first,
        height=height,
        width=width,
    )


def _are_images(images: Sequence[ImageInput | None]) -> bool:
    if None in images or len(images) not in (1, 2):
        return False
    if len({(image.height, image.width) for image in images}) > 1:
        return False
    return len(images) == 1 or all(image.channels in (1, 3) for image in images)


def _with_roles(images: Sequence[ImageInput]) -> list[ImageInput]:
    if len(images) == 1:
        roles = ["visible" if images[0].channels in (1, 3) else "both"]
    else:
        roles = ["visible", "infrared"]
        one, other = images
        is_infrared = [bool(_INFRARED.search(image.name.lower())) for image in images]
        # Names decide, then channels; without either, the visible image comes first.
        if is_infrared == [True, False] or (
            is_infrared[0] == is_infrared[1] and one.channels < other.channels
        ):
            roles.reverse()
    return [
        ImageInput(**{**vars(image), "role": role})
        for image, role in zip(images, roles, strict=True)
    ]
