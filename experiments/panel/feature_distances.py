"""How far students' images are from their teachers in features of a frozen network.

The mean over tiles and places of Eq. 10's squared distance, not routed: 1 is one
standard deviation of the teachers' features, 0 is none. Give a cache of held-out pairs:

    fusionproxy teach --config experiments/second_light.py --cache runs/held_out \
        --split validation --panel.backbones compact
    python experiments/panel/feature_distances.py runs/held_out \
        base runs/panel/panel_.onnx runs/panel/panel_compact.onnx
"""

import sys

import jax.numpy as jnp
import numpy as np

import fusionproxy_jax
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.losses.alignment import feature_distances
from fusionproxy_jax.teachers.cache import open_cache
from fusionproxy_jax.training.panel_features import load_panel_features


def main(cache: str, students: list[str]) -> None:
    """Prints one line a student and control, one column a backbone."""
    tiles = open_cache(cache, allow_rejected=True)
    panel = load_panel_features(("auto",), tiles, dtype="float32")
    if panel is None:
        raise FusionProxyError(f"{cache} has no features; teach it with a panel named")
    grid = (tiles.panel[0].grid,) * 2
    tiles = tiles.with_panel(panel.backbones)
    fusers = {name: fusionproxy_jax.load(name) for name in students}
    sums: dict[str, np.ndarray] = {}
    for tile in (tiles[index] for index in range(len(tiles))):
        visible, infrared = tile["visible"], tile["infrared"].astype(np.float32)
        images = {
            "visible alone": visible,
            "average": (visible / 255 + infrared[..., None]) / 2,
            "teachers' mean": tile["ensemble_mean"].astype(np.float32),
            **{name: fuser(visible, infrared) for name, fuser in fusers.items()},
        }
        for name, image in images.items():
            image = image / np.float32(255) if image.dtype == np.uint8 else image
            features = panel.extract(
                panel.frozen, jnp.asarray(image, jnp.float32)[None]
            )
            target = tuple(
                jnp.asarray(tile[f"feature_target/{k}"], jnp.float32)[None]
                for k in panel.backbones
            )
            distance = feature_distances(features, target, grid)
            sums[name] = sums.get(name, 0) + np.mean(distance, axis=(0, 2, 3))
    print(f"{'':<40}" + "".join(f"{name:>34}" for name in panel.backbones))
    for name, total in sums.items():
        print(f"{name:<40}" + "".join(f"{v:>34.4f}" for v in total / len(tiles)))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: feature_distances.py CACHE STUDENT [STUDENT ...]")
    try:
        main(sys.argv[1], sys.argv[2:])
    except FusionProxyError as error:
        sys.exit(f"feature_distances: {error}")
