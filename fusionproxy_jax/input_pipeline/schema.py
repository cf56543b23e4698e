"""One cached training image, a tile: the contract between teacher cache and loader.

A tile is a square cut of one pair with the teachers' statistics of the same pixels.
What lies beyond `valid_height` and `valid_width` is reflect padding on the lower and
right sides. Statistics are stored as float16; variances as their square roots, because
those below 6e-5 (a deviation of two grey levels) would fall out of float16's normal
range. A batch has the variances, float32: `ensemble_variance`,
`feature_variance/BACKBONE`.

==========================  ========  ============  ====================================
feature                     dtype     shape         meaning
==========================  ========  ============  ====================================
id                          str                     data set, image, place in the image
valid_height, valid_width   int                     pixels that are not padding
visible                     uint8     [t, t, 3]     RGB
infrared                    float16   [t, t]        [0, 1], larger is warmer
ensemble_mean               float16   [t, t, 3]     mean of the teacher samples, Eq. 4
ensemble_deviation          float16   [t, t]        root of the pixel variance, Eq. 5
teacher_mean/NAME           float16   [t, t, 3]     optional: mean of one teacher alone
feature_target/BACKBONE     float16   [gh, gw, c]   optional: panel target, Eq. 9
feature_deviation/BACKBONE  float16   [g, g]        with it: root of Eq. 6's variance
==========================  ========  ============  ====================================

Panel features belong to the whole tile: a tile that has them is never cropped.
"""

from collections.abc import Mapping

import numpy as np

from fusionproxy_jax.errors import FusionProxyError

TEACHER_MEAN = "teacher_mean/"
FEATURE_TARGET = "feature_target/"
FEATURE_DEVIATION = "feature_deviation/"
PANEL_PREFIXES = (FEATURE_TARGET, FEATURE_DEVIATION)

# Of a batch only.
FEATURE_VARIANCE = "feature_variance/"

# Arrays every tile has: dtype and channels, None for a plain [t, t] map.
TILE_ARRAYS: tuple[tuple[str, type, int | None], ...] = (
    ("visible", np.uint8, 3),
    ("infrared", np.float16, None),
    ("ensemble_mean", np.float16, 3),
    ("ensemble_deviation", np.float16, None),
)


def has_panel_features(tile: Mapping) -> bool:
    """Returns whether `tile` carries features that tie it to its full size."""
    return any(key.startswith(PANEL_PREFIXES) for key in tile)


def check_tile(tile: Mapping) -> None:
    """Rejects a tile that is not as the table above says.

    Raises:
        FusionProxyError: A feature is missing, or has another dtype or shape.
    """
    name = tile.get("id", "?")
    keys = ["id", "valid_height", "valid_width", *(key for key, _, _ in TILE_ARRAYS)]
    missing = [key for key in keys if key not in tile]
    if missing:
        raise FusionProxyError(
            f"tile {name!r} has no {', '.join(missing)}; build the teacher cache again "
            "with this version"
        )
    tile_px = np.shape(tile["visible"])[0]
    for key, dtype, channels in TILE_ARRAYS:
        shape = (tile_px, tile_px) if channels is None else (tile_px, tile_px, channels)
        array = np.asarray(tile[key])
        if array.dtype != dtype or array.shape != shape:
            raise FusionProxyError(
                f"{key} of tile {name!r} is {array.dtype} {list(array.shape)}; it must "
                f"be {np.dtype(dtype)} {list(shape)}"
            )
    _check_panel_features(tile)
    for key in ("valid_height", "valid_width"):
        if not 1 <= int(tile[key]) <= tile_px:
            raise FusionProxyError(
                f"{key} of tile {name!r} is {tile[key]}; it must be 1 to {tile_px}"
            )


def _check_panel_features(tile: Mapping) -> None:
    for key in tile:
        if not key.startswith(PANEL_PREFIXES):
            continue
        kind, backbone = key.split("/", 1)
        is_target = kind + "/" == FEATURE_TARGET
        other = (FEATURE_DEVIATION if is_target else FEATURE_TARGET) + backbone
        if other not in tile:
            raise FusionProxyError(
                f"tile {tile['id']!r} has {key} but no {other}; build the teacher "
                "cache's features again with this version"
            )
        array = np.asarray(tile[key])
        rank, shape = (3, "[gh, gw, c]") if is_target else (2, "[g, g]")
        if array.dtype != np.float16 or array.ndim != rank:
            raise FusionProxyError(
                f"{key} of tile {tile['id']!r} is {array.dtype} {list(array.shape)}; "
                f"it must be float16 {shape}"
            )
