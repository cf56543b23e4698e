"""What happens to a pair or a tile between disk and batch; NumPy only, on one record.

Cuts come before the conversion to float32: converting a whole tile and then throwing
most of it away is what would make the loader slow.
"""

from collections.abc import Mapping

import numpy as np
from PIL import Image

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.schema import PANEL_PREFIXES, TILE_ARRAYS

# RoadScene's aligned frames at camera resolution are up to 11 % wider than its infrared
# ones; a 4:3 and a 16:9 camera, 33 % apart, do not see the same field.
_ASPECT_TOLERANCE = 0.15


def match_infrared(
    infrared: np.ndarray, size: tuple[int, int], *, pair_id: str
) -> np.ndarray:
    """Returns `infrared` float32 [h, w] resized to `size` (height, width), bilinear.

    Training needs aligned pairs: images of different fields of view are refused.

    Raises:
        FusionProxyError: The aspect ratios differ by more than 15 %.
    """
    height, width = infrared.shape
    if (height, width) == tuple(size):
        return infrared
    if abs(height * size[1] / (width * size[0]) - 1) > _ASPECT_TOLERANCE:
        raise FusionProxyError(
            f"pair {pair_id!r} has a {size[1]}x{size[0]} px visible and a "
            f"{width}x{height} px infrared image; their resolution may differ but not "
            "their shape, so align the pair and crop both to the same field of view"
        )
    resized = Image.fromarray(infrared).resize(
        (size[1], size[0]), Image.Resampling.BILINEAR
    )
    return np.asarray(resized, np.float32)


def draw_crop(
    rng: np.random.Generator, *, tile_px: int, valid_px: int, crop_px: int
) -> int:
    """Returns the first row (or column) of a crop, inside the valid part if it fits.

    If it does not fit, the crop starts at 0: all that is valid and the least padding.
    """
    if crop_px > tile_px:
        raise FusionProxyError(
            f"a crop of {crop_px} px does not fit a tile of {tile_px} px; lower "
            "crop_px or build the teacher cache with larger tiles"
        )
    return int(rng.integers(0, max(valid_px - crop_px, 0) + 1))


def crop_and_flip(
    tile: Mapping, rng: np.random.Generator, *, crop_px: int, flip: bool
) -> dict:
    """Returns the arrays of `tile` cut to [crop_px, crop_px], mirrored half the time.

    All arrays of a tile move together. The results are views.
    """
    top, left = (
        draw_crop(
            rng,
            tile_px=tile["visible"].shape[0],
            valid_px=int(tile[f"valid_{side}"]),
            crop_px=crop_px,
        )
        for side in ("height", "width")
    )
    step = -1 if flip and rng.random() < 0.5 else 1
    return {
        key: tile[key][top : top + crop_px, left : left + crop_px][:, ::step]
        for key, _, _ in TILE_ARRAYS
    }


def to_training_features(tile: Mapping) -> dict[str, np.ndarray]:
    """Returns what one record adds to a training batch, float32.

    visible [h, w, 3], infrared [h, w, 1], ensemble_mean [h, w, 3] in [0, 1],
    ensemble_variance [h, w], and the panel features as they are.
    """
    features = {
        "visible": tile["visible"] * np.float32(1 / 255),
        "infrared": tile["infrared"].astype(np.float32)[..., None],
        "ensemble_mean": tile["ensemble_mean"].astype(np.float32),
        "ensemble_variance": np.square(tile["ensemble_deviation"], dtype=np.float32),
    }
    for key, value in tile.items():
        if key.startswith(PANEL_PREFIXES):
            features[key] = np.asarray(value, np.float32)
    return features
