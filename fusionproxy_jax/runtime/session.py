"""One exported student opened in ONNX Runtime, and what its file must look like.

Two forms exist: `float` takes visible [b, 3, h, w] and infrared [b, 1, h, w], float32
in [0, 1]; `camera` takes visible [b, h, w, 3] and infrared [b, h, w, 1], uint8. Both
give `fused` in the layout of `visible`.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.cores import num_physical_cores

Form = Literal["float", "camera"]

# Element type, and the axis of the three channels and of height and width.
_FORMS: dict[Form, tuple[str, int, tuple[int, int]]] = {
    "float": ("tensor(float)", 1, (2, 3)),
    "camera": ("tensor(uint8)", 3, (1, 2)),
}


class OnnxStudent:
    """An open ONNX file; `form` says which of the two layouts it takes."""

    form: Form

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        """Opens `path` on the CPU; `threads` is all physical cores by default.

        Raises:
          FusionProxyError: no such file, not an ONNX file, or not a fusion model.
        """
        if not path.is_file():
            raise FusionProxyError(f"there is no model file {path}")
        # Errors are raised; what ONNX Runtime warns about on stderr helps nobody here.
        onnxruntime.set_default_logger_severity(4)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads or num_physical_cores()
        options.inter_op_num_threads = 1
        # Idle threads spin within a run only: spinning on after it takes the processors
        # from whatever uses the fused image next (experiments/students/README.md).
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.graph_optimization_level = (
            onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        )
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        # Its exceptions share no base class below Exception.
        except Exception as error:
            raise FusionProxyError(
                f"{path} is damaged or not an ONNX model this ONNX Runtime can open; "
                "export it again with fusionproxy export"
            ) from error
        self._path = path
        self.form = _form_of(self._session, path)

    def run(self, visible: np.ndarray, infrared: np.ndarray) -> np.ndarray:
        """Returns `fused` for a batch in the layout of this file's form.

        Raises:
          FusionProxyError: the file was exported for another fixed size, or ONNX
            Runtime failed, as for lack of memory.
        """
        self._check_fixed_size(visible.shape)
        feeds = {
            "visible": np.ascontiguousarray(visible),
            "infrared": np.ascontiguousarray(infrared),
        }
        try:
            fused = self._session.run(["fused"], feeds)[0]
        # ONNX Runtime has no common class of error, and raises for lack of memory too.
        except Exception as error:
            raise FusionProxyError(
                f"{self._path} could not fuse images of shape {visible.shape} "
                f"({str(error).splitlines()[0]}); try a smaller image"
            ) from error
        if not np.isfinite(fused).all():
            raise FusionProxyError(
                f"{self._path} gave values that are not finite; the file is damaged or "
                "was exported from a failed training, so export it again"
            )
        return fused

    def _check_fixed_size(self, shape: tuple[int, ...]) -> None:
        declared = {node.name: node.shape for node in self._session.get_inputs()}
        height_axis, width_axis = _FORMS[self.form][2]
        # A dynamic axis has a name, or none, instead of a number.
        fixed_height = declared["visible"][height_axis]
        fixed_width = declared["visible"][width_axis]
        height, width = shape[height_axis], shape[width_axis]
        sizes = ((fixed_height, height), (fixed_width, width))
        if any(isinstance(fixed, int) and fixed != given for fixed, given in sizes):
            raise FusionProxyError(
                f"{self._path} only takes {fixed_width}x{fixed_height} px and "
                f"the visible image is {width}x{height} px; resize it, or export the "
                "student with dynamic sizes"
            )


def _form_of(session: onnxruntime.InferenceSession, path: Path) -> Form:
    inputs = {node.name: node for node in session.get_inputs()}
    outputs = {node.name for node in session.get_outputs()}
    if inputs.keys() == {"visible", "infrared"} and "fused" in outputs:
        for form, (element_type, channel_axis, _) in _FORMS.items():
            visible, infrared = inputs["visible"], inputs["infrared"]
            if (
                visible.type == infrared.type == element_type
                and len(visible.shape) == len(infrared.shape) == 4
                and visible.shape[channel_axis] == 3
                and infrared.shape[channel_axis] == 1
            ):
                return form
    raise FusionProxyError(
        f"{path} is not a fusion model: it takes {', '.join(inputs) or 'nothing'} and "
        f"gives {', '.join(outputs)}; use a file written by fusionproxy export"
    )
