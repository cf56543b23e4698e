"""What a deployed form must fulfil before it is written, beside what it was made from.

Differences are in grey levels of 255.
"""

from collections.abc import Sequence

import onnx

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.deployed_form import DeployedForm
from fusionproxy_jax.evaluation.extreme_pairs import Pair, extreme_pairs
from fusionproxy_jax.evaluation.graph_images import camera_noise
from fusionproxy_jax.evaluation.image_graph import Size
from fusionproxy_jax.evaluation.parity import FormParity, measure_parity
from fusionproxy_jax.onnx_export.float16_range import largest_stored

LARGEST_FLOAT16 = 65504.0
MEAN_TOLERANCE = 1.0
"""Of a float16 form, in levels."""

# A size that is a constant changes at most the order of sums, which can move values
# that lie between two levels, or two steps of int8.
_FIXED_TOLERANCE = 0.1
_CHECKED_SIZE: Size = (480, 640)
# Sums over the image grow with it.
_LARGE_SIZE: Size = (1080, 1920)


def check_float16(file: str, half: onnx.ModelProto, model: onnx.ModelProto) -> str:
    """Returns how far a float16 form is from the float32 one on extreme pairs.

    Raises:
        FusionProxyError: It gives inf or NaN, would on hardware that computes in
            float16, or differs by more than `MEAN_TOLERANCE` on average.
    """
    pairs = extreme_pairs(*_CHECKED_SIZE)
    probed = [*pairs.values(), *extreme_pairs(*_LARGE_SIZE).values()]
    largest, value = largest_stored(model, half, probed)
    if not largest < LARGEST_FLOAT16:
        raise FusionProxyError(
            f"{file} cannot hold this student: its value {value} reaches {largest:.3g} "
            f"and float16 ends at {LARGEST_FLOAT16:g}, so nothing was written; leave "
            "float16 out of --precision"
        )
    parity = _parity(file, half, model, list(pairs.items()))
    if parity.not_finite or not parity.mean_error <= MEAN_TOLERANCE:
        told = (
            f"gives inf or NaN for {parity.not_finite[0]}"
            if parity.not_finite
            else (
                f"differs by {parity.mean_error:.2f} levels on average, allowed is "
                f"{MEAN_TOLERANCE:g}"
            )
        )
        raise FusionProxyError(
            f"{file} {told}, so nothing was written; leave float16 out of --precision"
        )
    return _told(parity)


def check_int8(
    file: str,
    quantized: onnx.ModelProto,
    model: onnx.ModelProto,
    pairs: Sequence[tuple[str, Pair]],
    *,
    min_psnr_db: float,
) -> str:
    """Returns how far an int8 form is from the float32 one on the calibration pairs.

    Raises:
        FusionProxyError: Its PSNR over all of them is below `min_psnr_db`.
    """
    parity = _parity(file, quantized, model, pairs)
    if parity.psnr_db is not None and not parity.psnr_db >= min_psnr_db:
        raise FusionProxyError(
            f"{file} is {parity.psnr_db:.1f} dB from the float32 form on "
            f"{len(pairs)} calibration pairs and {min_psnr_db:g} dB are wanted, so "
            "nothing was written; calibrate on more or other pairs, or lower --min-psnr"
        )
    return _told(parity)


def check_fixed(
    file: str, fixed: onnx.ModelProto, model: onnx.ModelProto, size: Size
) -> str:
    """Returns how far a form of one size is from the one that takes any.

    Raises:
        FusionProxyError: By more than what rounding can make.
    """
    parity = _parity(file, fixed, model, [("noise", camera_noise(*size))])
    if not parity.mean_error <= _FIXED_TOLERANCE:
        raise FusionProxyError(
            f"{file} differs from the form of free size by {parity.mean_error:.2g} "
            f"levels on average, allowed is {_FIXED_TOLERANCE:g}, so nothing was "
            "written; please report it with the versions of onnx and onnxruntime"
        )
    return _told(parity)


def _parity(
    file: str,
    model: onnx.ModelProto,
    reference: onnx.ModelProto,
    pairs: Sequence[tuple[str, Pair]],
) -> FormParity:
    # Pairs are worked on in parallel.
    before, form = (
        DeployedForm(name, given.SerializeToString(), threads=1)
        for name, given in ((f"the source of {file}", reference), (file, model))
    )
    return measure_parity(before, [form], pairs, metrics=False, extreme_sizes=())[0]


def _told(parity: FormParity) -> str:
    if parity.psnr_db is None:
        return "no difference"
    return f"mean error {parity.mean_error:.3f} levels, PSNR {parity.psnr_db:.1f} dB"
