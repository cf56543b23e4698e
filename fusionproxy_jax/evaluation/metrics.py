"""The nine fusion metrics of one image triple.

Everything is measured on luma Y = round(0.299 R + 0.587 G + 0.114 B) in 0..255; a
grey image is taken as it is. For every metric more is better, though not always nicer:
SF and AG also grow with noise, SSIM with blur.
"""

import numpy as np

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation import fidelity, gradients, information

METRICS = ("EN", "SD", "SF", "AG", "MI", "SCD", "VIF", "Qabf", "SSIM")


def measure(
    fused: np.ndarray, visible: np.ndarray, infrared: np.ndarray
) -> dict[str, float]:
    """Returns the nine metrics of `METRICS` by name.

    Args:
        fused: uint8 [h, w, 3] RGB or [h, w] grey.
        visible: the same, as large.
        infrared: the same, as large.

    Raises:
        FusionProxyError: another type, unequal sizes, or a side under 41 px.
    """
    triple = [
        _luma(image, name)
        for name, image in (
            ("fused", fused),
            ("visible", visible),
            ("infrared", infrared),
        )
    ]
    _check_sizes(*triple)
    fused, visible, infrared = triple
    return {
        "EN": information.entropy(fused),
        "SD": information.standard_deviation(fused),
        "SF": gradients.spatial_frequency(fused),
        "AG": gradients.average_gradient(fused),
        "MI": information.mutual_information(fused, visible)
        + information.mutual_information(fused, infrared),
        "SCD": information.difference_correlation(*triple),
        "VIF": fidelity.visual_information_fidelity(*triple),
        "Qabf": gradients.edge_preservation(*triple),
        "SSIM": fidelity.structural_similarity(*triple),
    }


def _luma(image: np.ndarray, name: str) -> np.ndarray:
    """Returns float64 [h, w] with whole values."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or not (
        image.ndim == 2 or (image.ndim == 3 and image.shape[-1] in (1, 3))
    ):
        raise FusionProxyError(
            f"the {name} image to measure is {image.dtype} {image.shape}; metrics take "
            "uint8 [h, w] or [h, w, 3], convert it first"
        )
    if image.ndim == 2:
        return image.astype(np.float64)
    if image.shape[-1] == 1:
        return image[..., 0].astype(np.float64)
    return np.round(image @ np.array([0.299, 0.587, 0.114]))


def _check_sizes(fused: np.ndarray, visible: np.ndarray, infrared: np.ndarray) -> None:
    sizes = [
        f"{image.shape[1]}x{image.shape[0]}" for image in (fused, visible, infrared)
    ]
    if len(set(sizes)) > 1:
        raise FusionProxyError(
            f"fused, visible and infrared are {', '.join(sizes)} px; metrics compare "
            "images of one size, resize them first"
        )
    if min(fused.shape) < fidelity.SMALLEST_SIDE:
        raise FusionProxyError(
            f"images of {sizes[0]} px are too small to measure; VIF needs sides of at "
            f"least {fidelity.SMALLEST_SIDE} px"
        )
