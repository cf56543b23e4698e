"""Pairs no camera takes but every deployed form must survive without inf or NaN."""

import numpy as np

from fusionproxy_jax.evaluation.graph_images import camera_noise

Pair = tuple[np.ndarray, np.ndarray]
"""visible uint8 [h, w, 3] RGB and infrared uint8 [h, w]."""


def extreme_pairs(height: int, width: int) -> dict[str, Pair]:
    """Returns constant, alternating, independent and opposite images by name."""
    rows, columns = np.indices((height, width))
    left = columns < width // 2
    planes = {
        "white": (np.ones((height, width), bool),) * 2,
        "black": (np.zeros((height, width), bool),) * 2,
        "checkerboard": ((rows + columns) % 2 == 0, (rows + columns) % 2 == 1),
        "half and half": (left, ~left),
    }
    pairs = {name: tuple(map(_levels, pair)) for name, pair in planes.items()}
    return {
        name: (np.repeat(visible[..., None], 3, axis=2), infrared)
        for name, (visible, infrared) in pairs.items()
    } | {"noise": camera_noise(height, width)}


def _levels(plane: np.ndarray) -> np.ndarray:
    return np.where(plane, np.uint8(255), np.uint8(0))
