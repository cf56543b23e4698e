import math

import pytest

from fusionproxy_jax.sweeps.member_files import (
    Scores,
    Status,
    read_metrics,
    read_scores,
    read_status,
    write_scores,
    write_status,
)

STATUS = Status(
    state="dead",
    step=2,
    num_steps=9,
    died_at=3,
    program="feed",
    num_members=4,
    seconds_per_step=None,
    device="1 x cpu (cpu)",
)


def test_what_is_written_is_read(tmp_path):
    write_status(tmp_path / "member", STATUS)
    assert read_status(tmp_path / "member") == STATUS
    scores = Scores(num_pairs=3, scores={"EN": 7.0, "SD": 40.0})
    write_scores(tmp_path, scores)
    assert read_scores(tmp_path) == scores


def test_a_score_that_is_no_number_is_left_out(tmp_path):
    write_scores(tmp_path, Scores(num_pairs=3, scores={"EN": math.nan, "SD": 1.0}))
    assert "NaN" not in (tmp_path / "scores.json").read_text()
    assert read_scores(tmp_path).scores == {"SD": 1.0}


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        '{"state": "running", "st',
        "[1]",
        '{"state": "running"}',
        '{"state": "asleep", "step": 1, "num_steps": 2, "died_at": null, "program": '
        '"a", "num_members": 1, "seconds_per_step": null, "device": "cpu"}',
        '{"state": "running", "step": "one", "num_steps": 2, "died_at": null, '
        '"program": "a", "num_members": 1, "seconds_per_step": "x", "device": "cpu"}',
        '{"num_pairs": 3}',
        '{"num_pairs": "many", "scores": {}}',
    ],
)
def test_files_that_are_missing_or_damaged_are_not_there(tmp_path, text):
    if text is not None:
        for name in ("status.json", "scores.json"):
            (tmp_path / name).write_text(text)
    assert read_status(tmp_path) is None
    assert read_scores(tmp_path) is None


def test_metrics_are_read_up_to_a_row_cut_short(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "loss": 0.5}\n{"step": 2, "loss": null, "what": "x"}\n{"step": 3'
    )
    first, second = read_metrics(tmp_path)
    assert first == {"step": 1, "loss": 0.5}
    assert second.keys() == {"step", "loss"} and math.isnan(second["loss"])
    (tmp_path / "metrics.jsonl").write_bytes(b"\xff\xfe\n")
    assert read_metrics(tmp_path) == []
    assert read_metrics(tmp_path / "none") == []
