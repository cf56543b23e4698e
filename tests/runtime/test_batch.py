import errno
import os
from pathlib import Path

import numpy as np
import pytest

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.batch import fuse_jobs, plan
from fusionproxy_jax.runtime.images import read_visible, write_image

SHAPE = (20, 30)


def _mean(visible, infrared):
    return (visible // 2 + infrared[..., None] // 2).astype(visible.dtype)


@pytest.fixture
def folders(tmp_path):
    """Folders rgb and heat of the pairs a, b and c, and a text file beside them."""
    for level, name in enumerate("abc"):
        visible = np.full((*SHAPE, 3), 40 * level, np.uint8)
        infrared = np.full(SHAPE, 80 + 40 * level, np.uint8)
        for folder, array in (("rgb", visible), ("heat", infrared)):
            (tmp_path / folder).mkdir(exist_ok=True)
            write_image(tmp_path / folder / f"{name}.png", array)
    (tmp_path / "rgb" / "notes.txt").write_text("not an image")
    return tmp_path


def _plan(root, visible, infrared, out, **keywords):
    listed = [[str(root / item) for item in items] for items in (visible, infrared)]
    return plan(*listed, root / out, **keywords)


WAYS = {
    "folders": (["rgb"], ["heat"]),
    "patterns": (["rgb/*"], ["heat/?.png"]),
    "recursive pattern": (["**/rgb/*.png"], ["**/heat/*.png"]),
    "lists": (["rgb/c.png", "rgb/a.png", "rgb/b.png"], ["heat"]),
    "the same twice": (["rgb", "rgb/a.png"], ["heat"]),
}


@pytest.mark.parametrize(("visible", "infrared"), WAYS.values(), ids=WAYS)
def test_every_way_to_name_a_set_gives_the_same_jobs(folders, visible, infrared):
    jobs = _plan(folders, visible, infrared, "out")
    assert [job.out for job in jobs] == [folders / f"out/{n}.png" for n in "abc"]
    assert [job.visible.name for job in jobs] == ["a.png", "b.png", "c.png"]
    assert [job.infrared.name for job in jobs] == ["a.png", "b.png", "c.png"]
    assert not (folders / "out").exists()


def test_two_files_are_a_pair_whatever_their_names(folders):
    (job,) = _plan(folders, ["rgb/a.png"], ["heat/b.png"], "out/fused.tif")
    assert job.out == folders / "out/fused.tif"
    (job,) = _plan(folders, ["rgb/a.png"], ["heat/b.png"], "out")
    assert job.out == folders / "out/a.png"


def test_one_visible_image_finds_its_partner_in_a_folder(folders):
    (job,) = _plan(folders, ["rgb/b.png"], ["heat"], "b.png")
    assert job.infrared == folders / "heat/b.png"


def test_results_are_written_and_timed(folders):
    jobs = _plan(folders, ["rgb"], ["heat"], "new/out")
    outcomes = list(fuse_jobs(jobs, _mean))
    assert [outcome.error for outcome in outcomes] == [None] * 3
    assert all((o.width_px, o.height_px) == (30, 20) for o in outcomes)
    assert all(outcome.fuse_ms > 0 for outcome in outcomes)
    for level, name in enumerate("abc"):
        fused = read_visible(folders / f"new/out/{name}.png")
        assert np.all(fused == 40 + 40 * level)


def test_a_bad_pair_is_reported_and_the_others_are_written(folders):
    (folders / "heat" / "b.png").write_bytes(b"damaged")
    jobs = _plan(folders, ["rgb"], ["heat"], "out")
    outcomes = list(fuse_jobs(jobs, _mean))
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    assert "b.png cannot be read" in outcomes[1].error
    assert sorted(p.name for p in (folders / "out").iterdir()) == ["a.png", "c.png"]


def test_a_full_disk_stops_the_run_and_leaves_nothing_half_written(
    folders, monkeypatch
):
    write_bytes = Path.write_bytes

    def fill_up(path, data):
        if "b" not in path.name.split(".")[1]:
            return write_bytes(path, data)
        write_bytes(path, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", fill_up)
    jobs = _plan(folders, ["rgb"], ["heat"], "out")
    done = []
    with pytest.raises(FusionProxyError, match="No space left .* 2 of 3 pairs left"):
        for outcome in fuse_jobs(jobs, _mean):
            done.append(outcome)
    assert len(done) == 1
    assert [path.name for path in (folders / "out").iterdir()] == ["a.png"]


def test_existing_results_are_replaced_only_when_asked(folders):
    write_image(folders / "out.png", np.zeros((*SHAPE, 3), np.uint8))
    with pytest.raises(FusionProxyError, match="1 of 1 results exist .*--overwrite"):
        _plan(folders, ["rgb/b.png"], ["heat/b.png"], "out.png")
    jobs = _plan(folders, ["rgb/b.png"], ["heat/b.png"], "out.png", overwrite=True)
    list(fuse_jobs(jobs, _mean))
    assert np.all(read_visible(folders / "out.png") == 80)


def test_an_input_is_never_replaced(folders):
    link = folders / "link"
    link.symlink_to(folders / "rgb")
    for out in ("rgb/a.png", "heat/a.png", "rgb", "heat", "link"):
        with pytest.raises(FusionProxyError, match="is an input and would be replaced"):
            _plan(folders, ["rgb/a.png"], ["heat/a.png"], out, overwrite=True)


def test_a_folder_with_an_image_suffix_is_a_folder(folders):
    (folders / "odd.png").mkdir()
    (job,) = _plan(folders, ["rgb/a.png"], ["heat/a.png"], "odd.png")
    assert job.out == folders / "odd.png/a.png"


def test_a_result_that_would_replace_a_folder_is_refused(folders):
    (folders / "out" / "a.png").mkdir(parents=True)
    with pytest.raises(FusionProxyError, match="is a folder"):
        _plan(folders, ["rgb/a.png"], ["heat/a.png"], "out", overwrite=True)


def test_a_folder_without_permission_is_refused(folders, monkeypatch):
    # The permission bits themselves do not bind root, who may be running this.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(FusionProxyError, match="no permission"):
        _plan(folders, ["rgb"], ["heat"], "out")
