import json
import math

import pytest

from fusionproxy_jax.training.logs.json_lines import (
    JsonLines,
    read_metrics,
    truncate_metrics,
)


def refuse(constant):
    raise AssertionError(f"{constant} is not JSON")


def strict(line):
    """What a parser that knows no NaN makes of a line."""
    return json.loads(line, parse_constant=refuse)


def test_values_that_are_not_finite_are_valid_json_and_come_back_as_nan(tmp_path):
    lines = JsonLines(tmp_path, after_step=0)
    lines.write(3, {"loss": math.nan, "norm": -math.inf, "rate": 0.5})
    lines.close()
    path = tmp_path / "metrics.jsonl"
    assert strict(path.read_text()) == {
        "step": 3,
        "loss": None,
        "norm": None,
        "rate": 0.5,
    }
    (row,) = read_metrics(path)
    assert row["step"] == 3 and row["rate"] == 0.5
    assert math.isnan(row["loss"]) and math.isnan(row["norm"])


def test_nan_as_older_runs_wrote_it_is_read_too(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": NaN}\n')
    assert math.isnan(read_metrics(path)[0]["loss"])


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        '{"step": 2, "lo',
        "[]",
        "7",
        '{"loss": 1.0}',
        '{"step": "2"}',
        "\x00\xff",
    ],
)
def test_lines_that_hold_no_row_are_passed_over(damage, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(
        b'{"step": 1, "loss": 2.0}\n' + damage.encode("latin-1") + b'\n{"step": 3}\n'
    )
    assert read_metrics(path) == [{"step": 1, "loss": 2.0}, {"step": 3}]


def test_a_file_that_is_not_there_has_no_rows(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == []
    assert read_metrics(tmp_path) == []


def test_a_line_that_a_kill_cut_short_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "loss": null}\n{"step": 3, "lo')
    truncate_metrics(path, 10)
    assert [strict(line)["step"] for line in path.read_text().splitlines()] == [1, 2]


def test_a_resumed_run_keeps_the_rows_before_it_as_they_were(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": null}\n{"step":  2}\n{"step": 3}\n')
    truncate_metrics(path, 2)
    assert path.read_text() == '{"step": 1, "loss": null}\n{"step":  2}\n'
