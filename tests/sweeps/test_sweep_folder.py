import json
import math

import pytest

from fusionproxy_jax.config import Config, LossConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.sweeps.folder import begin_sweep, read_sweep

MEMBERS = {
    "cold": Config(loss=LossConfig(routing_temperature=0.1)),
    "hot": Config(loss=LossConfig(routing_temperature=math.inf)),
}


def test_tasks_of_one_sweep_agree(tmp_path):
    for _ in range(2):
        begin_sweep(tmp_path / "w", MEMBERS, cache_hash="feed")
    found = read_sweep(tmp_path / "w")
    assert list(found) == ["cold", "hot"]
    assert found["hot"]["loss"]["routing_temperature"] == math.inf
    assert [path.name for path in (tmp_path / "w").iterdir()] == ["sweep.json"]


@pytest.mark.parametrize(
    ("members", "cache_hash", "sentence"),
    [
        (
            {**MEMBERS, "cold": Config(num_steps=3)},
            "feed",
            r"cold differ \(cold: loss.routing_temperature was 0.1 and is now 1.0, "
            "num_steps was 20000 and is now 3",
        ),
        ({**MEMBERS, "warm": Config()}, "feed", "warm is not in it"),
        ({"hot": MEMBERS["hot"]}, "feed", "cold is in it and not wanted"),
        (MEMBERS, "beef", "the teacher cache is another one"),
    ],
)
def test_another_sweep_in_the_folder_is_refused(
    tmp_path, members, cache_hash, sentence
):
    begin_sweep(tmp_path, MEMBERS, cache_hash="feed")
    (tmp_path / "members").mkdir()
    before = (tmp_path / "sweep.json").read_text()
    with pytest.raises(FusionProxyError, match=f"holds another sweep: {sentence}"):
        begin_sweep(tmp_path, members, cache_hash=cache_hash)
    assert (tmp_path / "sweep.json").read_text() == before


def test_a_sweep_of_which_nothing_has_begun_is_replaced(tmp_path):
    for members in (MEMBERS, {"other": Config()}):
        begin_sweep(tmp_path, members, cache_hash="feed")
    assert list(read_sweep(tmp_path)) == ["other"]


def test_a_folder_without_a_sweep_says_how_to_make_one(tmp_path):
    with pytest.raises(FusionProxyError, match="holds no sweep; make one with"):
        read_sweep(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"members": 3}', '{"members": {"a": 1}}', "\x00\xff"]
)
def test_a_damaged_sweep_file_is_a_sentence(tmp_path, text):
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(FusionProxyError, match="sweep.json is damaged; delete it"):
        read_sweep(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FusionProxyError, match="could not make the folder"):
        begin_sweep(tmp_path / "file" / "w", MEMBERS, cache_hash="feed")


def test_the_file_holds_the_members_as_their_runs_store_them(tmp_path):
    begin_sweep(tmp_path, MEMBERS, cache_hash="feed")
    stored = json.loads((tmp_path / "sweep.json").read_text())
    assert stored["members"]["cold"]["student"]["widths"] == [40, 80, 128]
