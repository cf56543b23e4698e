"""Pictures of the routing during training: which backbone teaches which place."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.evaluation.contact_sheet import contact_sheet
from fusionproxy_jax.losses.routing import normalised_routing_entropy
from fusionproxy_jax.losses.routing_variants import Routing
from fusionproxy_jax.runtime.images import write_image
from fusionproxy_jax.teachers.tiles import spread_evenly
from fusionproxy_jax.training.panel_features import PanelFeatures
from fusionproxy_jax.training.pictures import to_uint8

PyTree = Any


class RoutingPictures:
    """Draws the weights of every backbone over the same few tiles at any step."""

    def __init__(
        self,
        tiles: Sequence[dict],
        panel: PanelFeatures,
        *,
        num_tiles: int = 4,
    ) -> None:
        """Takes tiles with features of the panel, spread evenly over the cache."""
        self._tiles = [tiles[n] for n in spread_evenly(len(tiles), num_tiles)]
        self._panel = panel
        self._mean_variance = jnp.asarray(panel.mean_variance, jnp.float32)

    def write(
        self, directory: Path, step: int, routing: Routing, params: PyTree
    ) -> Path:
        """Writes `directory`/routing-<step>.png; `params` are the routing's."""
        rows = [self._row(tile, step, routing, params) for tile in self._tiles]
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"routing-{step:07d}.png"
        write_image(path, contact_sheet(rows))
        return path

    def _row(
        self, tile: dict, step: int, routing: Routing, params: PyTree
    ) -> list[tuple[str, np.ndarray]]:
        side = tile["visible"].shape[0]
        deviations = [
            tile[f"feature_deviation/{name}"].astype(np.float32)
            for name in self._panel.backbones
        ]
        variance = jnp.asarray(np.square(np.stack(deviations))[None])
        weights = routing(variance, self._mean_variance, step, params)
        entropy = normalised_routing_entropy(weights)
        maps = [*np.asarray(weights[0]), np.asarray(entropy[0])]
        # Without the tensor of an ONNX network, to fit a picture's width.
        names = [name.partition("#")[0] for name in self._panel.backbones]
        labels = [*names, "entropy"]
        return [
            (f"visible  {tile['id']}", tile["visible"]),
            ("infrared", to_uint8(tile["infrared"].astype(np.float32))),
            *(
                (f"{label}, mean {values.mean():.2f}", _enlarged(values, side))
                for label, values in zip(labels, maps, strict=True)
            ),
        ]


def _enlarged(values: np.ndarray, side: int) -> np.ndarray:
    """Returns a map in [0, 1] as grey [side, side], every value a square of pixels."""
    place = np.arange(side) * values.shape[0] // side
    return to_uint8(values[np.ix_(place, place)])
