"""entropy.png: routing entropy at the end against the routing temperature."""

import math
from collections.abc import Collection
from pathlib import Path

from fusionproxy_jax.sweeps.report.charts import new_figure, save_figure
from fusionproxy_jax.sweeps.report.gather import SweepRecord


def draw_entropy(record: SweepRecord, path: Path) -> bool:
    """Writes a point a member and a line through the means; returns whether there are.

    The axis is logarithmic; an infinite temperature stands behind the largest one.

    Raises:
        FusionProxyError: Matplotlib is not installed, or the file cannot be written.
    """
    entropies: dict[float, list[float]] = {}
    for member in record.members:
        temperature = member.temperature
        entropy = member.last.get("routing_entropy", math.nan)
        if temperature is not None and math.isfinite(entropy):
            entropies.setdefault(float(temperature), []).append(entropy)
    if not entropies:
        return False
    places = axis_places(entropies)
    means = {t: sum(values) / len(values) for t, values in entropies.items()}
    figure = new_figure(6.4, 4.2)
    axis = figure.subplots()
    axis.set_xscale("log")
    line = sorted(t for t in means if math.isfinite(t))
    axis.plot(
        [places[t] for t in line], [means[t] for t in line], color="0.6", zorder=1
    )
    points = [(places[t], one) for t, values in entropies.items() for one in values]
    axis.scatter(*zip(*points, strict=True), zorder=2)
    if line and math.inf in places:
        # The axis is broken between the last number and infinity.
        broken = math.sqrt(line[-1] * places[math.inf])
        axis.axvline(broken, color="0.6", linestyle=":")
    ticks = sorted(places)
    axis.set_xticks(
        [places[t] for t in ticks],
        ["\u221e" if math.isinf(t) else f"{t:g}" for t in ticks],
    )
    axis.set_xticks([], minor=True)
    axis.set_ylim(-0.03, 1.03)
    axis.set_xlabel("routing temperature")
    axis.set_ylabel("routing entropy, 1 is uniform")
    axis.grid(alpha=0.3)
    save_figure(figure, path)
    return True


def axis_places(temperatures: Collection[float]) -> dict[float, float]:
    """Returns where each temperature stands: an infinite one behind the others.

    It is apart by a fifth of their range, and at least by a factor of 3.
    """
    finite = sorted(t for t in set(temperatures) if math.isfinite(t))
    places = {t: t for t in finite}
    if math.inf in temperatures:
        first, last = (finite[0], finite[-1]) if finite else (1.0, 1.0)
        places[math.inf] = last * max(3.0, (last / first) ** 0.2)
    return places
