"""Tables of metrics: means over images and mean ranks of methods."""

from collections.abc import Mapping, Sequence

import numpy as np

from fusionproxy_jax.evaluation.metrics import METRICS


def mean_metrics(
    images: Sequence[Mapping[str, Mapping[str, float]]],
) -> dict[str, dict[str, float]]:
    """Returns method -> metric -> mean over images of method -> metric -> value."""
    return {
        method: {
            metric: float(np.mean([image[method][metric] for image in images]))
            for metric in METRICS
        }
        for method in images[0]
    }


def mean_ranks(means: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Returns each method's rank by its means, averaged over the nine metrics.

    1 is best; methods with equal values share the mean of their ranks.
    """
    values = np.array([[row[metric] for metric in METRICS] for row in means.values()])
    better = np.sum(values[None] > values[:, None], axis=1)
    equal = np.sum(values[None] == values[:, None], axis=1)
    ranks = better + (equal + 1) / 2
    return dict(zip(means, ranks.mean(axis=1).tolist(), strict=True))


def table(means: Mapping[str, Mapping[str, float]]) -> str:
    """Returns text: one line a method, the nine metrics, and the mean rank last."""
    ranks = mean_ranks(means)
    width = max(len("method"), *map(len, means))
    lines = [
        "method".ljust(width) + "".join(f"{name:>9}" for name in (*METRICS, "rank"))
    ]
    for method, row in means.items():
        cells = "".join(f"{row[metric]:>9.4g}" for metric in METRICS)
        lines.append(f"{method:<{width}}{cells}{ranks[method]:>9.2f}")
    return "\n".join(lines)
