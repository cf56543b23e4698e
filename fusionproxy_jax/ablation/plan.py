"""From rows to runs: rows of equal settings are one run, and runs share caches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fusionproxy_jax.ablation.rows import Row
from fusionproxy_jax.config import Config, PanelConfig, TeacherConfig, to_json
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.panel.registry import parse_entry, resolve


@dataclass(frozen=True)
class PlannedRow:
    """What is trained for a row."""

    title: str
    member: str
    """Name of its run: the first letter of those with the same settings."""
    cache: str
    """Name of the teacher cache it learns from."""
    config: Config


def panel_names(base: Config) -> tuple[str, ...]:
    """Returns the names of the backbones that a configuration aligns to.

    Raises:
        FusionProxyError: Weights of one are missing, or there is no such one.
    """
    if base.loss.alignment_weight == 0:
        return ()
    return tuple(parse_entry(entry).name for entry in resolve(base.panel.backbones))


def plan_rows(
    base: Config, rows: Mapping[str, Row], backbones: Sequence[str]
) -> dict[str, PlannedRow]:
    """Returns letter -> what is trained, of every row that can be.

    Rows that need a panel are left out where there is none.

    Args:
        base: The default configuration.
        rows: Those of the table.
        backbones: Names of the panel.

    Raises:
        FusionProxyError: The default has not what the rows vary.
    """
    _check_base(base)
    planned: dict[str, PlannedRow] = {}
    first: dict[str, str] = {}
    for letter, row in rows.items():
        if row.needs_panel and not backbones:
            continue
        config = row.config(base, backbones)
        planned[letter] = PlannedRow(
            title=row.title(base, backbones),
            member=first.setdefault(to_json(config), letter),
            cache=cache_name(config.teacher, config.panel),
            config=config,
        )
    return planned


def require_rows(
    letters: Sequence[str], rows: Mapping[str, Row], planned: Mapping[str, PlannedRow]
) -> None:
    """Refuses rows that cannot be trained here.

    Raises:
        FusionProxyError: There is no panel for them to vary, or the weights that the
            default starts from are of another student.
    """
    missing = [letter for letter in letters if letter not in planned]
    if missing:
        raise FusionProxyError(
            f"rows {', '.join(missing)} vary the alignment to a panel, and there is "
            "none: name backbones in panel.backbones and give loss.alignment_weight "
            "above 0, or leave these rows out"
        )
    others = [letter for letter in letters if rows[letter].student is not None]
    base = planned[letters[0]].config
    start = base.start_from or base.encoder_weights
    if others and start is not None:
        raise FusionProxyError(
            f"rows {', '.join(others)} have other students than {start} starts; set "
            "start_from and encoder_weights to none, or leave these rows out"
        )


def cache_name(teacher: TeacherConfig, panel: PanelConfig) -> str:
    """Returns a folder's name that tells apart the caches of rows."""
    parts = ["+".join(teacher.teachers), str(teacher.num_samples)]
    if teacher.variance != "total":
        parts.append(teacher.variance)
    if panel.target != "mean_of_features":
        parts.append(panel.target)
    return "_".join(parts)


def _check_base(base: Config) -> None:
    teacher = base.teacher
    if len(teacher.teachers) != 2 or teacher.num_samples < 2:
        raise FusionProxyError(
            f"the default has the teachers {', '.join(teacher.teachers)} with "
            f"teacher.num_samples {teacher.num_samples}; Table 4 takes away from two "
            "teachers with two samples or more, such as ddfm,mask_difuser and 4"
        )
    if base.loss.routing != "variance":
        raise FusionProxyError(
            f"the default has loss.routing {base.loss.routing}; in Table 4 it is "
            "variance, and rows d to f have the others"
        )
