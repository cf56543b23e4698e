"""The fuse function: one ONNX student behind NumPy arrays of any size and dtype."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.arrays import (
    as_float_infrared,
    as_float_visible,
    checked_infrared,
    checked_visible,
    from_float,
)
from fusionproxy_jax.runtime.session import Form, OnnxStudent

WEIGHTS = Path(__file__).parent.parent / "weights"
# Width over height of the two images may differ by this factor. RoadScene's aligned
# images differ by 1.11 from the frames they were made of, so pixels that are not square
# are real; 4:3 against 16:9 (1.33) is another field of view.
MAX_ASPECT_RATIO = 1.2


def load(
    model: str | Path = "small",
    *,
    threads: int | None = None,
    order: Literal["rgb", "bgr"] = "rgb",
) -> "Fuser":
    """Returns a function that fuses a visible and an infrared image.

    >>> fuse = load()
    >>> rgb = fuse(visible, infrared)

    Args:
      model: `nano`, `small` or `base`, quantised `nano_int8` or `small_int8`, or the
        path of an ONNX file that `fusionproxy export` wrote, in either of its two
        interfaces.
      threads: threads of the network; all physical cores by default.
      order: channel order of visible and fused images; OpenCV's is `bgr`.

    Raises:
      FusionProxyError: no such model, or a file that is no fusion model.
    """
    if order not in ("rgb", "bgr"):
        raise FusionProxyError(f"order is {order!r}; it must be 'rgb' or 'bgr'")
    if threads is not None and not (isinstance(threads, int) and 1 <= threads <= 256):
        raise FusionProxyError(f"threads is {threads!r}; it must be between 1 and 256")
    if Path(model).suffix.lower() == ".onnx":
        student = OnnxStudent(Path(model), threads=threads)
        return Fuser({student.form: lambda: student}, order=order)
    shipped = sorted(path.stem for path in WEIGHTS.glob("*.onnx"))
    names = [stem for stem in shipped if not stem.endswith("_camera")]
    if str(model) not in names:
        choices = " or ".join([*names, "the path of an .onnx file"])
        raise FusionProxyError(f"there is no model {str(model)!r}; give {choices}")
    path, camera_path = WEIGHTS / f"{model}.onnx", WEIGHTS / f"{model}_camera.onnx"
    students = {"float": lambda: OnnxStudent(path, threads=threads)}
    if camera_path.is_file():
        # Opened at once: nearly all pairs need it, and a damaged file shows here.
        camera = OnnxStudent(camera_path, threads=threads)
        students["camera"] = lambda: camera
    return Fuser(students, order=order)


class Fuser:
    """Fuses one visible with one infrared image; made by `load`."""

    def __init__(
        self,
        students: dict[Form, Callable[[], OnnxStudent]],
        *,
        order: Literal["rgb", "bgr"] = "rgb",
    ) -> None:
        """Takes how to open each form of the student; a form is opened when needed."""
        self._openers = students
        self._opened: dict[Form, OnnxStudent] = {}
        self._order = order

    def __call__(self, visible: np.ndarray, infrared: np.ndarray | None) -> np.ndarray:
        """Returns the fused image, of the visible image's size and dtype.

        Args:
          visible: colour [h, w, 3] or grey [h, w]; uint8, uint16, or float in [0, 1].
            At least 16 px on both sides.
          infrared: grey [h, w], of the same field of view; another size is resized to
            the visible image's. uint8 and float in [0, 1] are taken as they are, 16-bit
            counts and temperatures are normalised by `thermal.normalize`. None gives a
            copy of the visible image.

        Returns:
          Colour [h, w, 3] in the order given to `load`; a grey visible image comes back
          with three channels.

        Raises:
          FusionProxyError: an array that is not such an image, or two images of
            different shapes.
        """
        visible = checked_visible(visible)
        if infrared is None:
            return visible.copy()
        infrared = checked_infrared(infrared)
        _check_same_shape(visible, infrared)
        rgb = visible[..., ::-1] if self._order == "bgr" else visible
        is_camera = visible.dtype == infrared.dtype == np.uint8
        if self._form(is_camera=is_camera, dtype=visible.dtype) == "camera":
            fused = self._fuse_camera(rgb, infrared)
        else:
            fused = self._fuse_float(rgb, infrared)
        if self._order == "bgr":
            fused = fused[..., ::-1]
        return np.ascontiguousarray(fused)

    def _form(self, *, is_camera: bool, dtype: np.dtype) -> Form:
        """Returns the form that serves a pair: 8-bit in and out, or floats."""
        if "float" not in self._openers:
            if dtype != np.uint8:
                raise FusionProxyError(
                    f"this ONNX file takes 8-bit images and the visible image is "
                    f"{dtype}; load the float file exported beside it"
                )
            return "camera"
        return "camera" if is_camera and "camera" in self._openers else "float"

    def _student(self, form: Form) -> OnnxStudent:
        if form not in self._opened:
            self._opened[form] = self._openers[form]()
        return self._opened[form]

    def _fuse_camera(self, visible: np.ndarray, infrared: np.ndarray) -> np.ndarray:
        if infrared.dtype != np.uint8:
            infrared = from_float(as_float_infrared(infrared), np.dtype(np.uint8))
        infrared = _resized(infrared, visible)
        return self._student("camera").run(visible[None], infrared[None, ..., None])[0]

    def _fuse_float(self, visible: np.ndarray, infrared: np.ndarray) -> np.ndarray:
        # Normalised before it is resized: interpolation must not blend raw outliers in.
        infrared = _resized(as_float_infrared(infrared), visible)
        channels_first = as_float_visible(visible).transpose(2, 0, 1)
        fused = self._student("float").run(channels_first[None], infrared[None, None])
        return from_float(fused[0].transpose(1, 2, 0), visible.dtype)


def _check_same_shape(visible: np.ndarray, infrared: np.ndarray) -> None:
    height, width = visible.shape[:2]
    infrared_height, infrared_width = infrared.shape
    ratio = (width * infrared_height) / (height * infrared_width)
    if max(ratio, 1 / ratio) > MAX_ASPECT_RATIO:
        raise FusionProxyError(
            f"the visible image is {width}x{height} px and the infrared image "
            f"{infrared_width}x{infrared_height} px, which are different shapes; "
            "crop both to the same field of view first"
        )


def _resized(infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Returns uint8 or float32 `infrared` bilinearly resized to the visible's size."""
    height, width = visible.shape[:2]
    if infrared.shape == (height, width):
        return infrared
    image = Image.fromarray(np.ascontiguousarray(infrared))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
