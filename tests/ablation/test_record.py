import dataclasses
import json

import pytest
from ablation_setup import BASE

from fusionproxy_jax.ablation.plan import plan_rows
from fusionproxy_jax.ablation.record import Record, begun, read_record
from fusionproxy_jax.ablation.rows import TABLE_4
from fusionproxy_jax.errors import FusionProxyError


def _record(base=BASE, names=("one",)):
    return Record.of(4, base, names, plan_rows(base, TABLE_4, names))


def test_a_record_comes_back_as_it_was(tmp_path):
    record = _record().with_sweeps([["c", "e"], ["a"]])
    record.write(tmp_path / "new" / "folder")
    assert read_record(tmp_path / "new" / "folder") == record
    assert record.placed == {"a", "c", "e"}
    assert list(record.sweeps) == ["ce", "a"]


def test_rows_of_one_run_share_its_folder(tmp_path):
    record = _record().with_sweeps([["c", "e"]])
    shared = tmp_path / "sweeps" / "ce" / "members" / "c"
    assert [record.run_dir(tmp_path, letter) for letter in "chl"] == [shared] * 3
    assert record.run_dir(tmp_path, "e") == shared.with_name("e")
    assert record.run_dir(tmp_path, "a") is None


def test_the_same_ablation_goes_on_and_another_is_refused(tmp_path):
    assert begun(tmp_path, _record()) == _record()
    first = _record().with_sweeps([["c"]])
    first.write(tmp_path)
    assert begun(tmp_path, _record()) == first
    told = (
        r"holds another ablation: num_steps was 3 and is now 4; give the old settings"
    )
    with pytest.raises(FusionProxyError, match=told):
        begun(tmp_path, _record(dataclasses.replace(BASE, num_steps=4)))
    told = "the panel was one and is now one, two"
    with pytest.raises(FusionProxyError, match=told):
        begun(tmp_path, _record(names=("one", "two")))
    with pytest.raises(FusionProxyError, match="the panel was one and is now none"):
        begun(tmp_path, _record(names=()))


def test_titles_and_more_rows_of_a_later_version_change_no_run(tmp_path):
    wanted = _record()
    rows = {letter: dict(row) for letter, row in wanted.rows.items() if letter != "o"}
    rows["a"]["title"] = "as it was called before"
    dataclasses.replace(wanted, rows=rows).write(tmp_path)
    assert begun(tmp_path, wanted) == wanted
    rows["a"]["cache"] = "another"
    dataclasses.replace(wanted, rows=rows).write(tmp_path)
    with pytest.raises(FusionProxyError, match="its rows are those of another version"):
        begun(tmp_path, wanted)


@pytest.mark.parametrize("text", ["", "{}", '{"table": 4', "[]"])
def test_a_damaged_record_is_named(tmp_path, text):
    assert read_record(tmp_path) is None
    (tmp_path / "ablation.json").write_text(text)
    with pytest.raises(FusionProxyError, match="ablation.json is damaged; choose"):
        read_record(tmp_path)


def test_a_record_of_uniform_routing_is_read_back(tmp_path):
    # JSON has no infinity of its own; Python writes and reads one.
    loss = dataclasses.replace(BASE.loss, routing_temperature=float("inf"))
    record = _record(dataclasses.replace(BASE, loss=loss))
    record.write(tmp_path)
    assert begun(tmp_path, record) == record
    assert json.loads((tmp_path / "ablation.json").read_text())["table"] == 4
