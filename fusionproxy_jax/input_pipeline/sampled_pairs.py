"""A few real pairs as a camera gives them, the same choice on every machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.pairs import PairSource, load_pairs
from fusionproxy_jax.input_pipeline.split import split_pairs


class SampledPairs(Sequence):
    """So many pairs of all sources, drawn without repetition; read when asked for.

    Items are (id, (visible uint8 [h, w, 3], infrared uint8 [h, w])).
    """

    def __init__(
        self,
        sources: Sequence[str | Path],
        num_pairs: int,
        *,
        split: Literal["all", "train", "validation"] = "all",
        validation_fraction: float = 0.1,
        seed: int = 0,
    ) -> None:
        """Chooses; all pairs where there are not more.

        Args:
            sources: As `load_pairs` takes them.
            num_pairs: At least 1.
            split: Which side of `split_pairs` they come from.
            validation_fraction: See there.
            seed: Of the choice.

        Raises:
            FusionProxyError: The number is below 1, or a source holds no pairs.
        """
        if num_pairs < 1:
            raise FusionProxyError(
                f"the number of pairs is {num_pairs}; it must be at least 1"
            )
        pairs = load_pairs(sources)
        if split != "all":
            train, validation = split_pairs(pairs.ids_and_groups, validation_fraction)
            pairs = pairs.subset(train if split == "train" else validation)
        order = np.random.default_rng(seed).permutation(len(pairs))
        self._pairs: PairSource = pairs.subset(sorted(order[:num_pairs].tolist()))

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> tuple[str, tuple[np.ndarray, np.ndarray]]:
        if not 0 <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        pair = self._pairs[index]
        infrared = np.rint(255 * pair["infrared"]).astype(np.uint8)
        return pair["id"], (pair["visible"], infrared)
