import dataclasses
import json
import math

import pytest
from swept_folder import leave_member, leave_sweep

from fusionproxy_jax.config import LossConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.sweeps.report.best import Criterion
from fusionproxy_jax.sweeps.report.gather import gather
from fusionproxy_jax.sweeps.report.groups import groups_of
from fusionproxy_jax.sweeps.report.table import best_sentence, report_markdown
from fusionproxy_jax.sweeps.report.values import report_values

QABF = {
    ("0.1", 0): 0.50,
    ("0.1", 1): 0.54,
    ("1", 0): 0.60,
    ("1", 1): 0.48,
    ("inf", 0): 0.30,
}


@pytest.fixture
def swept(make_config, tmp_path):
    """Three temperatures by two seeds; the last one died."""
    members = {
        f"tau={text},seed={seed}": make_config(temperature=float(text), seed=seed)
        for text in ("inf", "0.1", "1")
        for seed in (0, 1)
    }
    leave_sweep(tmp_path, members)
    for (text, seed), qabf in QABF.items():
        name = f"tau={text},seed={seed}"
        leave_member(tmp_path, name, members[name], qabf=qabf)
    dead = "tau=inf,seed=1"
    leave_member(tmp_path, dead, members[dead], state="dead")
    return tmp_path


def rows_of(text, title):
    """Returns the cells of the table under a title, by column."""
    _, _, rest = text.partition(f"## {title}\n")
    lines = [line for line in rest.partition("\n## ")[0].splitlines() if "|" in line]
    header, _, *body = [[c.strip() for c in one[1:-1].split("|")] for one in lines]
    return [dict(zip(header, line, strict=True)) for line in body]


def markdown(workdir, best="qabf"):
    return report_markdown(gather(workdir), Criterion.of(best), pictures={}, notes=[])


def test_the_table_has_a_line_a_member_and_its_settings_that_differ(swept):
    rows = rows_of(markdown(swept), "Training")
    assert [row["member"] for row in rows][:2] == ["tau=inf,seed=0", "tau=inf,seed=1"]
    first, dead, second = rows[:3]
    assert first["loss.routing_temperature"] == "inf" and first["seed"] == "0"
    assert second["loss.routing_temperature"] == "0.1"
    assert "num_steps" not in first
    assert first["state"] == "finished" and dead["state"] == "died at step 2"
    # Four members took two seconds a step together.
    assert first["s per member-step"] == "0.5"
    assert first["routing_entropy"] == "1" and first["routing_weight/two#y"] == "0.75"
    # The last good row of the dead one.
    assert float(dead["loss"]) == pytest.approx(1 / 1.01 + 0.01, rel=1e-3)
    assert float(first["loss"]) == pytest.approx(1 / 1.04, rel=1e-3)


def test_scores_are_listed_and_missing_ones_are_empty(swept):
    rows = {row["member"]: row for row in rows_of(markdown(swept), "Held-out pairs")}
    assert rows["tau=0.1,seed=1"]["Qabf"] == "0.54"
    assert rows["tau=0.1,seed=1"]["pairs"] == "3"
    dead = rows["tau=inf,seed=1"]
    assert (dead["pairs"], dead["Qabf"], dead["EN"]) == ("", "", "")


def test_seeds_are_one_group_with_mean_and_spread(swept):
    rows = rows_of(markdown(swept), "Over seeds")
    assert [row["loss.routing_temperature"] for row in rows] == ["0.1", "1", "inf"]
    assert rows[0]["Qabf"] == "0.52 ± 0.028" and rows[0]["finished"] == "2 of 2"
    # One of two is dead: no spread, and the dead one does not count.
    assert rows[2]["Qabf"] == "0.3" and rows[2]["finished"] == "1 of 2"
    assert "seed" not in rows[0]


def test_without_several_seeds_there_are_no_groups(make_config, tmp_path):
    members = {str(t): make_config(temperature=t) for t in (1.0, 2.0)}
    record = gather(leave_sweep(tmp_path, members))
    assert groups_of(record) == ()
    assert "Over seeds" not in markdown(tmp_path)


def test_the_best_member_and_the_best_group_are_named_with_the_criterion(swept):
    record = gather(swept)
    assert best_sentence(record, Criterion.of("QABF")) == (
        "Best by highest Qabf on held-out pairs: tau=1,seed=0 (0.6); by the mean over "
        "seeds: loss.routing_temperature=1 (0.54)."
    )
    # Losses are the same but for the seed; the first of equals is named.
    assert "lowest last training loss: tau=inf,seed=0" in best_sentence(
        record, Criterion.of("loss")
    )
    # Third of five in eight equal metrics, first in the ninth.
    assert (
        "lowest mean rank over the nine metrics on held-out pairs: tau=1,seed=0 "
        in (best_sentence(record, Criterion.of("rank")))
    )
    assert Criterion.of("rank").values(record.members)["tau=1,seed=0"] == 25 / 9


def test_an_unknown_criterion_is_refused():
    with pytest.raises(FusionProxyError, match="--best beauty is no criterion; .*qabf"):
        Criterion.of("beauty")


def test_only_finished_members_can_be_best(make_config, tmp_path):
    members = {name: make_config(seed=seed) for seed, name in enumerate("ab")}
    leave_sweep(tmp_path, members)
    leave_member(tmp_path, "a", members["a"], state="stopped", step=2, qabf=0.9)
    record = gather(tmp_path)
    assert "No best member yet" in best_sentence(record, Criterion.of("qabf"))
    leave_member(tmp_path, "b", members["b"], qabf=0.1)
    assert ": b (0.1)" in best_sentence(gather(tmp_path), Criterion.of("qabf"))


def test_values_are_strict_json(swept):
    values = report_values(gather(swept), Criterion.of("qabf"))
    text = json.dumps(values, allow_nan=False)
    stored = json.loads(text)
    assert stored["best"] == "tau=1,seed=0"
    assert stored["varied"] == ["loss.routing_temperature", "seed"]
    hot = stored["members"]["tau=inf,seed=1"]
    assert hot["settings"] == {"loss.routing_temperature": "inf", "seed": 1}
    assert (hot["state"], hot["died_at"], hot["scores"]) == ("dead", 2, {})
    assert stored["groups"][0]["mean"]["Qabf"] == pytest.approx(0.52)
    assert stored["groups"][2]["spread"]["Qabf"] is None


def test_members_not_begun_or_damaged_have_empty_cells(make_config, tmp_path):
    members = {name: make_config(seed=seed) for seed, name in enumerate("abcd")}
    leave_sweep(tmp_path, members)
    leave_member(tmp_path, "b", members["b"], state="running", step=2)
    leave_member(tmp_path, "c", members["c"], qabf=0.5)
    for file in ("status.json", "scores.json", "metrics.jsonl"):
        (tmp_path / "members/c" / file).write_text('{"st')
    (tmp_path / "members/d").mkdir()
    rows = {row["member"]: row for row in rows_of(markdown(tmp_path), "Training")}
    assert rows["a"]["state"] == rows["c"]["state"] == rows["d"]["state"] == "not begun"
    assert rows["b"]["state"] == "running at step 2" and rows["b"]["loss"]
    assert rows["c"]["loss"] == rows["a"]["s per member-step"] == ""
    json.dumps(report_values(gather(tmp_path), Criterion.of("qabf")), allow_nan=False)


def test_the_temperature_that_counts_is_the_one_at_the_end(make_config, tmp_path):
    config = make_config()
    losses = {
        "cooled": LossConfig(routing_temperature=2.0, routing_temperature_end=0.5),
        "hot": LossConfig(routing_temperature=math.inf),
        "learned": LossConfig(routing="learned"),
    }
    members = {
        name: dataclasses.replace(config, loss=loss) for name, loss in losses.items()
    }
    record = gather(leave_sweep(tmp_path, members))
    assert [one.temperature for one in record.members] == [0.5, math.inf, None]
