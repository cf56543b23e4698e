import json
import sys

import pytest
from swept_folder import leave_member, leave_sweep

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.sweeps.report import write
from fusionproxy_jax.sweeps.report.write import write_report

FILES = {
    *("report.md", "report.json"),
    *("curves.png", "entropy.png", "pictures.png", "routing.png"),
}


@pytest.fixture
def members(make_config):
    return {
        name: make_config(temperature=temperature, seed=1)
        for name, temperature in (("cold", 0.1), ("hot", 10.0))
    }


def files(workdir):
    return {path.name for path in (workdir / "report").iterdir()}


def test_a_report_shows_everything_that_is_there(members, tmp_path):
    leave_sweep(tmp_path, members)
    for name, qabf in (("cold", 0.4), ("hot", 0.5)):
        leave_member(tmp_path, name, members[name], qabf=qabf, pictures=True)
    report = write_report(tmp_path)
    assert files(tmp_path) == FILES
    assert report.path == tmp_path / "report/report.md"
    assert report.best.endswith("on held-out pairs: hot (0.5).")
    text = report.path.read_text()
    for name in FILES - {"report.md", "report.json"}:
        assert f"({name})" in text
    assert report.best in text and "2 of 2 members are finished" in text


def test_a_sweep_that_has_not_begun_has_a_report_too(members, tmp_path):
    leave_sweep(tmp_path, members)
    report = write_report(tmp_path)
    assert files(tmp_path) == {"report.md", "report.json"}
    text = report.path.read_text()
    assert "No curves.png: no member has reported yet." in text
    assert text.count("| not begun |") == 2


def test_a_picture_of_before_goes_when_there_is_nothing_to_show(members, tmp_path):
    leave_sweep(tmp_path, members)
    (tmp_path / "report").mkdir()
    (tmp_path / "report/routing.png").write_bytes(b"old")
    write_report(tmp_path)
    assert not (tmp_path / "report/routing.png").exists()


def test_without_matplotlib_the_rest_is_written(members, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    leave_sweep(tmp_path, members)
    leave_member(tmp_path, "cold", members["cold"], pictures=True)
    text = write_report(tmp_path).path.read_text()
    assert files(tmp_path) == FILES - {"curves.png", "entropy.png"}
    assert "No curves.png: charts are drawn with matplotlib" in text


def test_a_task_that_ends_meanwhile_is_in_the_report(members, tmp_path, monkeypatch):
    leave_sweep(tmp_path, members)
    leave_member(tmp_path, "cold", members["cold"], qabf=0.4)
    report_values, calls = write.report_values, []

    def meanwhile(record, criterion):
        if not calls:
            leave_member(tmp_path, "hot", members["hot"], qabf=0.5)
        calls.append(record)
        return report_values(record, criterion)

    monkeypatch.setattr(write, "report_values", meanwhile)
    assert "hot (0.5)" in write_report(tmp_path).best
    stored = json.loads((tmp_path / "report/report.json").read_text())
    assert stored["best"] == "hot" and len(calls) == 2


def test_a_folder_without_a_sweep_is_refused(tmp_path):
    with pytest.raises(FusionProxyError, match="holds no sweep"):
        write_report(tmp_path)


def test_an_unknown_criterion_is_refused_before_anything_is_written(members, tmp_path):
    leave_sweep(tmp_path, members)
    with pytest.raises(FusionProxyError, match="--best looks is no criterion"):
        write_report(tmp_path, best="looks")
    assert not (tmp_path / "report").exists()
