import json
import sys
import time
import types

import numpy as np
import pytest

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.training.logs.wandb import WandbRun

PICTURE = np.zeros((20, 30, 3), np.uint8)


class Recorder(types.ModuleType):
    """Stands for the package: keeps what it is told; a server knows `last_steps`."""

    class Error(Exception):
        pass

    def __init__(self):
        super().__init__("wandb")
        self.begun, self.rows, self.last_steps = [], [], {}
        self.refusal = None

    def Settings(self, **settings):
        return settings

    def Image(self, image):
        return ("image", image.shape)

    def init(self, **options):
        if self.refusal is not None:
            raise self.Error(self.refusal)
        self.begun.append(options)
        run = types.SimpleNamespace(
            starting_step=self.last_steps.get(options["id"], -1) + 1,
            log=lambda values, step: self.rows.append((step, values)),
            finish=lambda: self.rows.append("finished"),
        )
        return run


@pytest.fixture
def server(monkeypatch):
    recorder = Recorder()
    monkeypatch.setitem(sys.modules, "wandb", recorder)
    return recorder


def begin(workdir, *, after_step=0, project="fusion"):
    return WandbRun(
        workdir, after_step=after_step, project=project, config={"loss": {"a": 1}}
    )


def eventually(folder, pattern, wanted):
    """Contents of the files once they hold all that is wanted.

    Its own process writes them, and ends a little later than the run.
    """
    for _ in range(300):
        contents = b"".join(path.read_bytes() for path in folder.glob(pattern))
        if all(text in contents for text in wanted):
            return contents
        time.sleep(0.1)
    raise AssertionError(f"{folder} has no {wanted}")


def test_rows_and_pictures_arrive_with_their_steps(tmp_path, server):
    run = begin(tmp_path / ".." / tmp_path.name)
    run.write(2, {"loss": 0.5})
    run.write_image("pictures", 2, PICTURE)
    run.close()
    assert server.rows == [
        (2, {"loss": 0.5}),
        (2, {"pictures": ("image", (20, 30, 3))}),
        "finished",
    ]
    (options,) = server.begun
    assert options["project"] == "fusion" and options["resume"] == "allow"
    assert options["config"] == {"loss": {"a": 1}} and options["name"] == tmp_path.name


def test_a_resumed_run_goes_on_in_the_same_run_and_sends_no_step_twice(
    tmp_path, server
):
    begin(tmp_path).close()
    first = server.begun[0]["id"]
    server.last_steps[first] = 4
    run = begin(tmp_path, after_step=3)
    assert server.begun[1]["id"] == first
    server.rows.clear()
    for step in (4, 5):
        run.write(step, {"loss": 1.0 / step})
        run.write_image("pictures", step, PICTURE)
    assert [step for step, _ in server.rows] == [5, 5]


def test_a_run_that_begins_anew_is_another_one_there(tmp_path, server):
    ids = []
    for after_step, project in ((0, "fusion"), (0, "fusion"), (3, "other")):
        begin(tmp_path, after_step=after_step, project=project)
        ids.append(server.begun[-1]["id"])
    assert len(set(ids)) == 3


def test_an_id_that_a_kill_cut_short_is_made_anew(tmp_path, server):
    (tmp_path / "wandb.json").write_text('{"project": "fusion", "id')
    begin(tmp_path, after_step=3)
    kept = json.loads((tmp_path / "wandb.json").read_text())
    assert kept == {"project": "fusion", "id": server.begun[0]["id"]}


def test_what_cannot_begin_is_one_sentence(tmp_path, server):
    server.refusal = "no API key.\nLog in first."
    with pytest.raises(FusionProxyError) as caught:
        begin(tmp_path)
    assert str(caught.value) == (
        "Weights & Biases did not begin a run of project 'fusion' (no API key. Log in "
        "first); log in with `wandb login`, or set WANDB_MODE=offline"
    )


@pytest.mark.parametrize("module", [None, types.ModuleType("wandb")])
def test_a_missing_package_is_one_sentence(module, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", module)
    with pytest.raises(FusionProxyError, match="not installed; install .* 'wandb'"):
        begin(tmp_path)


def test_it_works_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "own"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    runs = [begin(tmp_path)]
    # Two runs of one process do not get into each other's way.
    (tmp_path / "other").mkdir()
    other = begin(tmp_path / "other")
    for step in (1, 2):
        runs[0].write(step, {"pixel_loss": 0.5, "loss": float("nan")})
        other.write(step, {"alignment_loss": 0.5})
    runs[0].write_image("pictures", 2, PICTURE)
    runs[0].close()
    other.close()
    # Its folders are named by the second: one begun in the same one would take the
    # place of the first, as no run does that is killed and started again.
    time.sleep(1.1)
    runs.append(begin(tmp_path, after_step=1))
    runs[1].write(2, {"structure_loss": 0.25})
    runs[1].close()

    run_id = json.loads((tmp_path / "wandb.json").read_text())["id"]
    own = f"offline-run-*/run-{run_id}.wandb"
    contents = eventually(tmp_path / "wandb", own, [b"pixel_loss", b"structure_loss"])
    assert b"alignment_loss" not in contents
    assert len(list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))) == 2
    (picture,) = (tmp_path / "wandb").glob("offline-run-*/files/media/images/*.png")
    assert picture.stat().st_size > 0
