"""The table of what exists: numbers of both, empty cells, caveats."""

import dataclasses
import json
import math

import pytest
from ablation_setup import BASE

from fusionproxy_jax.ablation.plan import plan_rows
from fusionproxy_jax.ablation.record import Record
from fusionproxy_jax.ablation.results import NOT_COMPUTED
from fusionproxy_jax.ablation.rows import TABLE_4
from fusionproxy_jax.ablation.speed_file import student_key, write_speeds
from fusionproxy_jax.ablation.table import write_table
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.sweeps.member_files import (
    Scores,
    Status,
    write_scores,
    write_status,
)

NAMES = ("one", "two")
STATUS = Status(
    state="finished",
    step=3,
    num_steps=3,
    died_at=None,
    program="0",
    num_members=1,
    seconds_per_step=0.25,
    device="two cores",
)
CACHE = {
    "hash": "feed",
    "teachers": ["gaussian", "average"],
    "num_samples": 2,
    "num_tiles": 8,
    "tile_px": 32,
    "num_pairs": 4,
    "failed_gate": ["samples differ"],
}


def _write(workdir, base=BASE, names=NAMES, **changes):
    record = Record.of(4, base, names, plan_rows(base, TABLE_4, names))
    record = record.with_sweeps([["a"], ["c", "e"], ["i"]])
    caches = {
        "gaussian+average_2": CACHE,
        "average_1": CACHE | {"teachers": ["average"], "num_samples": 1},
    }
    dataclasses.replace(record, caches=caches, **changes).write(workdir)
    return record


@pytest.fixture
def workdir(tmp_path):
    record = _write(tmp_path)
    for letter, qabf in (("a", 0.25), ("c", 0.5)):
        run = record.run_dir(tmp_path, letter)
        write_status(run, STATUS)
        scores = {"Qabf": qabf, "VIF": 0.75, "MI": math.nan, "EN": 7.125}
        write_scores(run, Scores(num_pairs=2, scores=scores))
    died = dataclasses.replace(STATUS, state="dead", died_at=2)
    write_status(record.run_dir(tmp_path, "e"), died)
    going = dataclasses.replace(STATUS, state="running", step=1)
    write_status(record.run_dir(tmp_path, "i"), going)
    return tmp_path


def _rows(workdir):
    lines = (workdir / "table.md").read_text().splitlines()
    rows, heads = {}, None
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] == "row":
            heads = cells
        elif line.startswith("| ("):
            rows[cells[0].strip("()")] = dict(zip(heads, cells, strict=True))
    return rows


def test_every_row_has_the_papers_numbers_and_ours_where_there_are_some(workdir):
    table = write_table(workdir)
    assert table.path == workdir / "table.md"
    # a, c and what is c too: h, l, and n, whose second teacher this default has.
    assert (table.num_done, table.num_rows) == (5, 16)
    rows = _rows(workdir)
    assert list(rows) == list(TABLE_4)
    assert rows["a"]["MUSIQ (paper)"] == "42.7" and rows["a"]["Qabf"] == "0.250"
    assert rows["a"]["EN"] == "7.12" and rows["a"]["state"] == "finished"
    assert rows["b"]["Qabf"] == "" and rows["b"]["state"] == "not run"
    assert rows["m"]["MUSIQ (paper)"] == "" and rows["i"]["FPS 4070 (paper)"] == "198"
    assert rows["h"]["Qabf"] == rows["l"]["Qabf"] == rows["c"]["Qabf"] == "0.500"
    assert rows["h"]["variant"] == "full dual-signal (Eq. 8) (= c)"


def test_cells_of_what_was_not_or_cannot_be_measured_are_empty(workdir):
    write_table(workdir)
    rows = _rows(workdir)
    for name in NOT_COMPUTED:
        assert {row[name] for row in rows.values()} == {""}
    assert rows["a"]["MI"] == rows["a"]["SF"] == rows["a"]["frames/s"] == ""
    assert (rows["e"]["Qabf"], rows["e"]["state"]) == ("", "died at step 2")
    assert (rows["i"]["Qabf"], rows["i"]["state"]) == ("", "running, step 1 of 3")


def test_scores_of_the_papers_own_metrics_are_shown_where_somebody_made_them(workdir):
    run = workdir / "sweeps" / "a" / "members" / "a"
    write_scores(run, Scores(num_pairs=2, scores={"Qabf": 0.25, "MUSIQ": 40.0}))
    write_table(workdir)
    assert _rows(workdir)["a"]["MUSIQ"] == "40.0"


def test_a_finished_row_without_scores_and_damaged_files_give_empty_cells(workdir):
    (workdir / "sweeps/a/members/a/scores.json").unlink()
    (workdir / "sweeps/ce/members/c/status.json").write_text("{")
    (workdir / "speed.json").write_text("nothing")
    assert write_table(workdir).num_done == 0
    rows = _rows(workdir)
    assert rows["a"]["state"] == "finished, no scores"
    assert rows["c"]["state"] == "not run"


def test_the_json_says_what_the_table_says(workdir):
    write_table(workdir)
    values = json.loads((workdir / "table.json").read_text())
    rows = {row["row"]: row for row in values["rows"]}
    assert rows["a"]["ours"]["Qabf"] == 0.25 and rows["a"]["ours"]["MUSIQ"] is None
    assert rows["a"]["paper"]["seg. mIoU"] == 61.5 and rows["p"]["paper"] == {}
    assert rows["a"]["run"] == "sweeps/a/members/a" and rows["b"]["run"] is None
    assert rows["l"]["same_as"] == "c" and rows["c"]["same_as"] is None
    assert values["base"]["num_steps"] == 3 and values["panel"] == ["one", "two"]
    text = (workdir / "table.md").read_text()
    assert all(f"- {sentence}" in text for sentence in values["caveats"])


def test_speed_and_parameters_are_those_of_the_rows_student(workdir):
    student = dataclasses.asdict(BASE.student)
    write_speeds(
        workdir,
        {
            "processor": "two cores",
            "size": [480, 640],
            "threads": 2,
            "load_average": 1.25,
            "notes": ["row_j is not timed: no"],
            "students": {
                student_key(student): {
                    "parameters": 1_234_000,
                    "frames_per_second": 12.345,
                }
            },
        },
    )
    write_table(workdir)
    rows = _rows(workdir)
    assert (rows["a"]["parameters"], rows["a"]["frames/s"]) == ("1.23 M", "12.3")
    assert rows["i"]["parameters"] == rows["i"]["frames/s"] == ""
    text = (workdir / "table.md").read_text()
    assert "480x640, batch 1, in ONNX Runtime on two cores with 2 threads" in text
    assert "1.2 threads were busy before it." in text
    assert "row_j is not timed: no" in text


@pytest.mark.parametrize(
    "told",
    [
        "The panel is one, two; the paper's is VGG-16, DINOv2, CLIP and SAM.",
        "Row d has one alone in place of the paper's VGG-16",
        "Trained on 8 tiles of 32 px from 4 pairs of , 3 steps of 2: 0.8 times over",
        "Rows of equal settings are one run: c = h = l = n.",
        "One sample has no variance: pixel weights and routing of row a are uniform.",
        "The ensemble of rows c, e, h, i, l, n fails its gate, it does not hold: ",
        "means over 2 held-out pairs at full size",
        "MUSIQ, DeQA, det. mAP, seg. mIoU are not computed here",
        "misalignment.translation_px is 1.0 (paper: 10.0)",
        "teacher.num_samples is 2 (paper: 4)",
        "Trained on two cores.",
    ],
)
def test_caveats_say_what_is_not_the_papers(workdir, told):
    write_table(workdir)
    assert told in (workdir / "table.md").read_text()


def test_caveats_of_the_papers_panel_and_of_none(tmp_path):
    _write(tmp_path / "paper", names=("vgg16", "dinov2", "clip", "sam"))
    write_table(tmp_path / "paper")
    text = (tmp_path / "paper" / "table.md").read_text()
    assert "sam, as in the paper." in text and "Row d has" not in text
    _write(tmp_path / "none", names=())
    write_table(tmp_path / "none")
    text = (tmp_path / "none" / "table.md").read_text()
    assert "No panel: nothing is aligned" in text
    assert _rows(tmp_path / "none")["d"]["variant"].startswith("needs a panel")


def test_a_folder_without_an_ablation_is_refused(tmp_path):
    with pytest.raises(FusionProxyError, match="holds no ablation; make one with"):
        write_table(tmp_path)
