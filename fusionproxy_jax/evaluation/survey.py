"""Measuring many pairs of images with several methods of fusion."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from fusionproxy_jax.evaluation.metrics import measure
from fusionproxy_jax.runtime.arrays import (
    as_float_infrared,
    as_float_visible,
    from_float,
)
from fusionproxy_jax.runtime.cores import num_physical_cores
from fusionproxy_jax.runtime.images import read_infrared, read_visible
from fusionproxy_jax.runtime.pairing import PairPaths

Method = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(visible uint8 [h, w, 3], infrared uint8 [h, w]) -> fused uint8 [h, w, 3]."""

Measured = dict[str, dict[str, float]]
"""Metrics of one pair: method -> metric -> value."""


def measure_pairs(
    pairs: Sequence[PairPaths], methods: Mapping[str, Method]
) -> Iterator[Measured]:
    """Yields the metrics of each pair in order, working on one pair per core.

    Raises:
        FusionProxyError: an image that cannot be read, fused or measured.
    """
    with ThreadPoolExecutor(num_physical_cores()) as executor:
        yield from executor.map(lambda pair: measure_pair(pair, methods), pairs)


def measure_pair(pair: PairPaths, methods: Mapping[str, Method]) -> Measured:
    """Fuses one pair with every method and measures the results."""
    visible, infrared = read_pair(pair)
    return {
        name: measure(fuse(visible, infrared), visible, infrared)
        for name, fuse in methods.items()
    }


def pictures(
    pairs: Sequence[PairPaths], methods: Mapping[str, Method]
) -> list[list[tuple[str, np.ndarray]]]:
    """Returns rows for a contact sheet: a pair, then what each method makes of it."""
    rows = []
    for pair in pairs:
        visible, infrared = read_pair(pair)
        fused = [(name, fuse(visible, infrared)) for name, fuse in methods.items()]
        rows.append([(pair.id, visible), ("infrared", infrared), *fused])
    return rows


def read_pair(pair: PairPaths) -> tuple[np.ndarray, np.ndarray]:
    """Returns uint8 [h, w, 3] and uint8 [h, w], both of the visible image's size.

    Deeper images are normalised as for fusion and rounded to 8 bits.
    """
    visible = _eight_bits(as_float_visible(read_visible(pair.visible)))
    infrared = _eight_bits(as_float_infrared(read_infrared(pair.infrared)))
    height, width = visible.shape[:2]
    if infrared.shape != (height, width):
        image = Image.fromarray(infrared)
        resized = image.resize((width, height), Image.Resampling.BILINEAR)
        infrared = np.asarray(resized)
    return visible, infrared


def _eight_bits(image: np.ndarray) -> np.ndarray:
    return from_float(image, np.dtype(np.uint8))
