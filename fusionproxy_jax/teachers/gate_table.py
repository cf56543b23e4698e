"""The gate's report as a table that a person reads."""

from collections.abc import Iterator, Mapping

from fusionproxy_jax.teachers.gate import LOW_CORRELATION
from fusionproxy_jax.teachers.verdict import failed_criteria

_REGIONS = ("_where_sources_disagree", "_where_sources_agree", "")


def gate_table(report: Mapping) -> str:
    """Returns one line per teacher and part of the variance, and every criterion.

    Several data sets have their own lines, and the criteria that fail in one are told.

    Args:
      report: report.json of a cache: `verdict.gate_report` of all, and that of every
        data set under `datasets`.
    """
    datasets = report["datasets"]
    several = len(datasets) > 1
    blocks = ({"all data sets": report} if several else {}) | datasets
    rows = [row for name, block in blocks.items() for row in _rows(name, block)]
    width = max(len(label) for label, cells in rows if cells)
    lines = [f"{label:<{width}}{cells}".rstrip() for label, cells in [*_HEAD, *rows]]
    for criterion, holds in report["passed"].items():
        lines.append(f"{'pass' if holds else 'FAIL'}  {criterion}")
    if several:
        lines += [
            f"FAIL  in {name} alone: {criterion}"
            for name, block in datasets.items()
            for criterion in failed_criteria(block)
        ]
    return "\n".join(lines)


_HEAD = (
    (
        "",
        f"{'deviation where sources':>30}{'infrared':>10}{'worst':>11}"
        f"{'low-pass correlation':>27}",
    ),
    (
        "",
        f"{'disagree':>10}{'agree':>10}{'or not':>10}{'weight':>10}{'saturation':>11}"
        f"{'median':>9}{'lowest':>9}{f'<= {LOW_CORRELATION}':>9}",
    ),
)


def _rows(name: str, report: Mapping) -> Iterator[tuple[str, str]]:
    """Yields (label, cells) of one data set."""
    apart = report["share_of_pixels_where_sources_disagree"]
    yield f"{name}: {report['num_tiles']} tiles, {apart:.0%} disagree", ""
    for teacher, found in report["teachers"].items():
        yield f"  {teacher}", _deviations(found, "deviation") + _samples(found)
    if len(report["teachers"]) > 1:
        total = _deviations(report, "deviation_total")
        yield "  between teachers", _deviations(report, "deviation_between")
        yield "  ensemble", total + _samples(report)


def _deviations(found: Mapping, prefix: str) -> str:
    return "".join(f"{found[prefix + region]:>10.4f}" for region in _REGIONS)


def _samples(found: Mapping) -> str:
    return (
        f"{found['median_infrared_weight']:>10.2f}"
        f"{found['worst_added_saturation']:>11.1%}"
        f"{found['median_low_pass_correlation']:>9.2f}"
        f"{found['lowest_low_pass_correlation']:>9.2f}"
        f"{found['share_of_samples_with_low_correlation']:>9.0%}"
    )
