"""Compares exported students with the Flax network they came from."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime

from fusionproxy_jax.config import StudentConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.models.any_size import fuse_any_size
from fusionproxy_jax.models.variants import build_student

FLOAT_TOLERANCE = 1e-4
"""Largest difference from Flax, of values in [0, 1]."""

# A result on the border between two levels may round either way.
CAMERA_TOLERANCE = 1.0 / 255.0

# Odd sizes and a batch; padded they are equal, so that JAX compiles once.
_SIZES_PX = ((61, 83), (50, 81))
_BATCH_SIZE = 2


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def max_differences(
    models: Mapping[str, onnx.ModelProto], params: Any, config: StudentConfig
) -> dict[str, float]:
    """Returns the largest difference from Flax per model, in [0, 1] units.

    Inputs are noise of 8-bit levels, which both forms take exactly; the infrared image
    is independent of the visible one.
    """
    # The form of depthwise convolutions that compiles fast.
    module = build_student(config, grouped=True)
    generator = np.random.default_rng(0)
    sessions = {name: _session(model) for name, model in models.items()}
    differences = dict.fromkeys(models, 0.0)
    for height, width in _SIZES_PX:
        shape = (_BATCH_SIZE, height, width)
        visible = generator.integers(0, 256, (*shape, 3), np.uint8)
        infrared = generator.integers(0, 256, (*shape, 1), np.uint8)
        unit = [image.astype(np.float32) / 255.0 for image in (visible, infrared)]
        expected = np.asarray(fuse_any_size(module, params, *map(jnp.asarray, unit)))
        for name, session in sessions.items():
            camera = session.get_inputs()[0].type == "tensor(uint8)"
            if camera:
                fused = _run(session, visible, infrared) / 255.0
                reference = np.round(expected * 255.0) / 255.0
            else:
                nchw = [image.transpose(0, 3, 1, 2) for image in unit]
                fused = _run(session, *nchw).transpose(0, 2, 3, 1)
                reference = expected
            # NaN compares as no difference at all.
            if not np.isfinite(fused).all():
                differences[name] = float("inf")
                continue
            worst = float(np.max(np.abs(fused - reference)))
            differences[name] = max(differences[name], worst)
    return differences


def _run(session: onnxruntime.InferenceSession, *pair: np.ndarray) -> np.ndarray:
    return session.run(
        ["fused"], dict(zip(("visible", "infrared"), pair, strict=True))
    )[0]


def check_differences(differences: Mapping[str, float]) -> None:
    """Refuses exports that do not compute what the Flax network computes.

    Raises:
        FusionProxyError: A difference passes its tolerance.
    """
    for name, difference in differences.items():
        camera = name.endswith("_camera.onnx")
        # Half a level more: the quotient by 255 is rounded.
        allowed = 1.5 * CAMERA_TOLERANCE if camera else FLOAT_TOLERANCE
        if not difference <= allowed:
            raise FusionProxyError(
                f"{name} differs from the Flax network by {difference:.2g}, allowed is "
                f"{FLOAT_TOLERANCE:g} (one level for the camera form), so nothing was "
                "written; please report it with the versions of jax and jax2onnx"
            )
