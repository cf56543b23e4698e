"""Contact sheets of an ensemble: what each teacher made of one tile."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from fusionproxy_jax.evaluation.contact_sheet import contact_sheet
from fusionproxy_jax.teachers.ensemble import ensemble_mean, ensemble_variance


def sheet_name(tile_id: str) -> str:
    """Returns a file name for a tile: its id, without what file names cannot hold."""
    return re.sub(r"[^\w.,@+=-]+", "_", tile_id) + ".png"


def sample_sheet(
    samples: np.ndarray, names: Sequence[str], record: Mapping
) -> np.ndarray:
    """Returns uint8 RGB: sources, mean and deviation above a row for each teacher.

    The deviation is drawn so that its largest value is white; its label says which.

    Args:
      samples: RGB [t, n, h, w, 3] of t teachers.
      names: those of the teachers.
      record: the tile (`input_pipeline.schema`); only its valid part is shown.
    """
    valid = slice(record["valid_height"]), slice(record["valid_width"])
    samples = samples[:, :, *valid]
    flat = samples.reshape(-1, *samples.shape[2:])
    deviation = np.sqrt(np.asarray(ensemble_variance(flat)))
    largest = float(deviation.max())
    rows = [
        [
            (f"visible {record['id']}", record["visible"][valid]),
            ("infrared", _uint8(record["infrared"][valid].astype(np.float32))),
            ("ensemble mean", _uint8(np.asarray(ensemble_mean(flat)))),
            (f"deviation, white = {largest:.3f}", _uint8(deviation / (largest or 1.0))),
        ]
    ]
    for name, own in zip(names, samples, strict=True):
        mean = np.asarray(ensemble_mean(own))
        row = [(f"{name} {n + 1}", _uint8(one)) for n, one in enumerate(own)]
        rows.append([*row, (f"{name} mean", _uint8(mean))])
    return contact_sheet(rows)


def _uint8(image: np.ndarray) -> np.ndarray:
    return np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)
