"""Writes the report of a sweep from whatever lies in its folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.files import atomic_path
from fusionproxy_jax.sweeps.folder import make_folder, write_json
from fusionproxy_jax.sweeps.report.best import Criterion
from fusionproxy_jax.sweeps.report.curves import draw_curves
from fusionproxy_jax.sweeps.report.entropy import draw_entropy
from fusionproxy_jax.sweeps.report.gather import SweepRecord, gather
from fusionproxy_jax.sweeps.report.pictures import draw_pictures, draw_routing
from fusionproxy_jax.sweeps.report.table import best_sentence, report_markdown
from fusionproxy_jax.sweeps.report.values import report_values


class _Picture(NamedTuple):
    file: str
    draw: Callable[[SweepRecord, Path], bool]
    caption: str
    missing: str
    """Why there may be nothing to draw."""


_PICTURES = (
    _Picture(
        "curves.png",
        draw_curves,
        "Loss terms and routing entropy against the step; a cross is where a member "
        "died",
        "no member has reported yet",
    ),
    _Picture(
        "entropy.png",
        draw_entropy,
        "Routing entropy at the end against the routing temperature",
        "no member routes by variance over a panel",
    ),
    _Picture(
        "pictures.png",
        draw_pictures,
        "Held-out pairs, newest picture of every member",
        "no member has drawn held-out pairs yet",
    ),
    _Picture(
        "routing.png",
        draw_routing,
        "Weights of the backbones on the same tiles by routing temperature, 0 black to "
        "1 white",
        "no member has drawn routing maps yet",
    ),
)


@dataclass(frozen=True)
class Report:
    """What was written."""

    path: Path
    """report.md."""
    best: str
    """A sentence on the best member."""


def write_report(workdir: str | Path, *, best: str = "qabf") -> Report:
    """Writes report/ in the folder of a sweep; each file appears whole.

    Of tasks that end at the same time each writes again until it has seen the end of
    all, so that the last one's report is complete.

    Args:
        workdir: Folder of the sweep.
        best: Criterion of the best member, see `Criterion`.

    Raises:
        FusionProxyError: It holds no sweep, cannot be written, or there is no such
            criterion.
    """
    workdir, criterion = Path(workdir).absolute(), Criterion.of(best)
    record = gather(workdir)
    for _ in record.members:
        report = _write(record, criterion)
        seen, record = _ends(record), gather(workdir)
        if _ends(record) == seen:
            break
    return report


def _write(record: SweepRecord, criterion: Criterion) -> Report:
    folder = record.workdir / "report"
    make_folder(folder)
    pictures, notes = {}, []
    for picture in _PICTURES:
        drawn, missing = False, picture.missing
        try:
            drawn = picture.draw(record, folder / picture.file)
        except FusionProxyError as error:
            missing = str(error)
        if drawn:
            pictures[picture.file] = picture.caption
        else:
            (folder / picture.file).unlink(missing_ok=True)
            notes.append(f"No {picture.file}: {missing}.")
    write_json(folder / "report.json", report_values(record, criterion))
    path = folder / "report.md"
    with atomic_path(path) as temporary:
        temporary.write_text(
            report_markdown(record, criterion, pictures=pictures, notes=notes)
        )
    return Report(path, best_sentence(record, criterion))


def _ends(record: SweepRecord) -> list[tuple[bool, bool]]:
    """Returns what of each member changes once only: its end, and its scores."""
    return [
        (one.status is not None and one.status.ended, bool(one.scores))
        for one in record.members
    ]
