"""Many processes, killed at any moment: the finished cache is always the same."""

import random
import signal

import pytest
from cache_builds import BuildServer, cache_files

NUM_KILLS = 20


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with BuildServer(tmp_path_factory.mktemp("compiled")) as server:
        yield server


@pytest.fixture(scope="module")
def whole(server, tmp_path_factory):
    """Files of a cache that one process built undisturbed."""
    folder = tmp_path_factory.mktemp("whole") / "cache"
    assert server.start(folder).wait() == 0
    files = cache_files(folder)
    assert len(files) == 3 + 2 * 18
    assert {"manifest.json", "prior.npz", "report.json"} < files.keys()
    return files


def test_two_processes_at_once_make_the_cache_of_one(server, whole, tmp_path):
    builds = [server.start(tmp_path / "cache", index, 2) for index in (1, 0)]
    assert [build.wait() for build in builds] == [0, 0]
    assert cache_files(tmp_path / "cache") == whole


def test_of_two_processes_one_is_killed_and_started_again(server, whole, tmp_path):
    folder = tmp_path / "cache"
    victim, other = (server.start(folder, index, 2) for index in (0, 1))
    assert victim.kill_after(random.Random(0).randint(2, 12)) == -signal.SIGKILL
    assert other.wait() == 0
    left = cache_files(folder)
    assert "report.json" not in left and left.keys() != whole.keys()
    assert server.start(folder, 0, 2).wait() == 0
    assert cache_files(folder) == whole


def test_two_processes_of_the_same_part_share_it(server, whole, tmp_path):
    builds = [server.start(tmp_path / "cache") for _ in range(2)]
    assert [build.wait() for build in builds] == [0, 0]
    assert cache_files(tmp_path / "cache") == whole


def test_the_survivor_of_two_of_the_same_part_finishes_it(server, whole, tmp_path):
    victim, survivor = (server.start(tmp_path / "cache") for _ in range(2))
    assert victim.kill_after(5) == -signal.SIGKILL
    assert survivor.wait() == 0
    assert cache_files(tmp_path / "cache") == whole


def test_a_build_killed_twenty_times_ends_like_one_that_was_not(server, tmp_path):
    teachers = ("average",)
    whole = tmp_path / "whole"
    assert server.start(whole, teachers=teachers).wait() == 0
    folder, rng = tmp_path / "cache", random.Random(1)
    killed_at = []
    while len(killed_at) < NUM_KILLS:
        build = server.start(folder, rng.randrange(2), 2, teachers)
        # Anywhere from its start to its third shard or so, between ticks too.
        code = build.kill_after(rng.randint(0, 10), rng.uniform(0, 0.02))
        shards = sorted(folder.glob("*.array_record"))
        if code == -signal.SIGKILL:
            killed_at.append(len(shards))
        else:
            # It was faster: some of its work is to be done again.
            assert code == 0
            for path in rng.sample(shards, 4):
                path.unlink()
    assert len(set(killed_at)) >= 4
    for index in (0, 1):
        assert server.start(folder, index, 2, teachers).wait() == 0
    assert cache_files(folder) == cache_files(whole)


@pytest.fixture(scope="module")
def with_panel(server, tmp_path_factory):
    """Files of a cache with a panel that one process built undisturbed."""
    folder = tmp_path_factory.mktemp("with_panel") / "cache"
    assert server.start(folder, panel=True).wait() == 0
    files = cache_files(folder)
    for name in ("fine", "coarse"):
        own = [file for file in files if file.startswith(f"features/{name}/")]
        # 11 tiles of the scale in as many shards.
        assert len(own) == 2 + 11 + 2 * 18
    assert not any("samples" in file for file in files)
    return files


def test_two_processes_at_once_make_the_panel_of_one(
    server, whole, with_panel, tmp_path
):
    folder = tmp_path / "cache"
    builds = [server.start(folder, index, 2, panel=True) for index in (1, 0)]
    assert [build.wait() for build in builds] == [0, 0]
    # One may have left while the other still worked: that one did the rest.
    assert cache_files(folder) == with_panel
    assert whole.items() < with_panel.items()


def test_two_of_the_same_part_share_a_panel_added_later(
    server, whole, with_panel, tmp_path
):
    folder = tmp_path / "cache"
    assert server.start(folder).wait() == 0
    victim, survivor = (server.start(folder, panel=True) for _ in range(2))
    assert victim.kill_after(40) == -signal.SIGKILL
    assert survivor.wait() == 0
    assert cache_files(folder) == with_panel


def test_a_build_with_a_panel_killed_many_times_ends_like_one_that_was_not(
    server, tmp_path
):
    options = {"teachers": ("average",), "panel": True}
    whole = tmp_path / "whole"
    assert server.start(whole, **options).wait() == 0
    folder, rng = tmp_path / "cache", random.Random(2)
    killed_at = set()
    while len(killed_at) < 5:
        build = server.start(folder, rng.randrange(2), 2, **options)
        code = build.kill_after(rng.randint(0, 60), rng.uniform(0, 0.02))
        files = sorted(cache_files(folder))
        if code == -signal.SIGKILL:
            killed_at.add(len(files))
        else:
            # It was done, or done with its part: some of its work is to be done again.
            assert code == 0
            lost = [name for name in files if "record" in name or "moments" in name]
            for name in rng.sample(lost, len(lost) // 4):
                (folder / name).unlink()
    for index in (0, 1):
        assert server.start(folder, index, 2, **options).wait() == 0
    assert cache_files(folder) == cache_files(whole)
