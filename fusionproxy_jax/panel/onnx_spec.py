"""What an entry `onnx:FILE#TENSOR?settings` of a panel says."""

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.panel.onnx_file import OnnxFile

_PREFIX = "onnx:"
_FORM = "onnx:FILE#TENSOR, and after ? any of mean=R,G,B&std=R,G,B&order=bgr&scale=255"
_ORDERS = ("rgb", "bgr")


@dataclass(frozen=True)
class OnnxSpec:
    """A network, its tap, and how it wants its images."""

    path: Path
    tensor: str
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """RGB, of images in [0, 1], whatever the order; ImageNet's unless given."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """RGB, of images in [0, 1], whatever the order; ImageNet's unless given."""
    order: str = "rgb"
    """Of the channels as the network takes them, rgb or bgr."""
    scale: float = 1.0
    """Factor on the normalised image: 255, with mean 0 and std 1, makes 0 to 255."""

    @property
    def name(self) -> str:
        """Key of the features in a cache; a legal part of a file's name."""
        return re.sub(r"[^A-Za-z0-9._#-]", "_", f"{self.path.stem}#{self.tensor}")


def parse_spec(entry: str) -> OnnxSpec:
    """Reads an entry of a panel.

    Raises:
        FusionProxyError: It is not of the form, or names no tensor.
    """
    path, _, rest = entry.removeprefix(_PREFIX).partition("#")
    tensor, _, settings = rest.partition("?")
    if not entry.startswith(_PREFIX) or not path:
        raise FusionProxyError(f"{entry!r} is no ONNX backbone; give {_FORM}")
    spec = OnnxSpec(Path(path).expanduser(), tensor)
    if not tensor:
        raise FusionProxyError(_which_tensor(entry, spec.path))
    for setting in filter(None, settings.split("&")):
        key, _, value = setting.partition("=")
        spec = replace(spec, **{key: _value(key, value, entry)})
    return spec


def _value(key: str, text: str, entry: str) -> object:
    if key == "order" and text in _ORDERS:
        return text
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    expected = {"mean": 3, "std": 3, "scale": 1}.get(key)
    fit = len(numbers) == expected and all(map(math.isfinite, numbers))
    if not fit or (key != "mean" and 0 in numbers):
        raise FusionProxyError(
            f"{entry!r} has the setting {key}={text}; give {_FORM}, numbers of std "
            "and scale other than 0"
        )
    return numbers[0] if key == "scale" else numbers


def _which_tensor(entry: str, path: Path) -> str:
    """Offers the last map of each size: what the stages of a network end with."""
    last = {shape[2:]: (n, shape) for n, shape in OnnxFile(path).feature_maps().items()}
    offers = ", ".join(f"{name} {list(shape)}" for name, shape in last.values())
    return f"{entry!r} names no tensor; append #TENSOR, for example one of {offers}"
