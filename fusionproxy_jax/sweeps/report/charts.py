"""What the charts of a report share: figures without a display, colours by setting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.files import atomic_path
from fusionproxy_jax.sweeps.report.gather import SEEDS, TEMPERATURE, SweepRecord
from fusionproxy_jax.sweeps.report.groups import sort_key
from fusionproxy_jax.sweeps.report.table import setting_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> "Figure":
    """Returns an empty figure of a size in inches.

    Raises:
        FusionProxyError: Matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise FusionProxyError(
            "charts are drawn with matplotlib; run pip install 'fusionproxy-jax[train]'"
        ) from error
    # Without pyplot there is no window and no state shared between charts.
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: "Figure", path: Path) -> None:
    """Writes a figure as PNG."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)


@dataclass(frozen=True)
class Colouring:
    """Which colour is whose, by one setting."""

    setting: str | None
    colours: Mapping[str, str]
    """Value of the setting as text -> colour, by rising value."""
    texts: Mapping[str, str]
    """Member -> value of the setting as text."""

    def of(self, member: str) -> str:
        """Returns the colour of a member."""
        return self.colours[self.texts[member]]


def colouring(record: SweepRecord) -> Colouring:
    """Returns colours by the setting that varies, from dark to bright."""
    name = _colour_setting(record)
    values = {one.name: one.settings.get(name) for one in record.members}
    ordered = sorted(values.values(), key=lambda value: sort_key([value]))
    texts = list(dict.fromkeys(map(setting_text, ordered)))
    return Colouring(
        setting=name,
        colours=dict(zip(texts, _palette(len(texts)), strict=True)),
        texts={member: setting_text(value) for member, value in values.items()},
    )


def _colour_setting(record: SweepRecord) -> str | None:
    """Returns the setting that colours tell apart; None where nothing varies."""
    names = [name for name in record.varied if name not in SEEDS]
    if TEMPERATURE in names:
        return TEMPERATURE
    return next(iter(names or record.varied), None)


def _palette(count: int) -> Sequence[str]:
    import matplotlib
    from matplotlib.colors import to_hex

    # The brightest yellow cannot be seen on white.
    scale = matplotlib.colormaps["viridis"]
    return [to_hex(scale(0.9 * k / max(count - 1, 1))) for k in range(count)]
