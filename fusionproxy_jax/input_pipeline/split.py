"""Which pairs train and which validate: the same choice on every machine."""

import hashlib
from collections.abc import Sequence

from fusionproxy_jax.errors import FusionProxyError


def split_pairs(
    ids_and_groups: Sequence[tuple[str, str]], validation_fraction: float
) -> tuple[list[int], list[int]]:
    """Returns the indices that train and the indices that validate, both ascending.

    Whole groups (a video clip, or one image) go to one side, so that no clip is trained
    and validated on. Within each data set, the first part of the group's path, groups
    are ordered by the SHA-256 of their name and the first
    max(1, round(validation_fraction * groups)) validate: adding a data set changes
    nothing for the others. A data set of one group trains; a fraction of 0 leaves
    nothing for validation.

    Args:
        ids_and_groups: (id, group) of every pair, as `PairSource.ids_and_groups`.
        validation_fraction: Share of the groups, in [0, 1).

    Raises:
        FusionProxyError: The fraction is outside [0, 1).
    """
    if not 0 <= validation_fraction < 1:
        raise FusionProxyError(
            f"validation_fraction is {validation_fraction}; it must be in [0, 1)"
        )
    datasets: dict[str, set[str]] = {}
    for _, group in ids_and_groups:
        datasets.setdefault(group.split("/")[0], set()).add(group)
    validation_groups: set[str] = set()
    for groups in datasets.values():
        wanted = max(1, round(validation_fraction * len(groups)))
        num_groups = min(wanted, len(groups) - 1) if validation_fraction > 0 else 0
        validation_groups.update(sorted(groups, key=_digest)[:num_groups])
    train, validation = [], []
    for index, (_, group) in enumerate(ids_and_groups):
        (validation if group in validation_groups else train).append(index)
    return train, validation


def _digest(group: str) -> str:
    return hashlib.sha256(group.encode()).hexdigest()
