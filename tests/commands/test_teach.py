import numpy as np
import pytest
from PIL import Image

from fusionproxy_jax import cli
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.teachers.cache import open_cache


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Three pairs of 40x36, one of which the split holds out."""
    folder = tmp_path_factory.mktemp("pairs") / "made_up"
    rng = np.random.default_rng(0)
    for kind, shape in (("visible", (36, 40, 3)), ("infrared", (36, 40))):
        (folder / kind).mkdir(parents=True)
        for index in range(3):
            image = Image.fromarray(rng.integers(0, 256, shape, np.uint8))
            image.save(folder / kind / f"{index}.png")
    return folder


def _teach(source, cache, *options):
    return cli.run(
        [
            "teach",
            f"--cache={cache}",
            "--data.sources",
            str(source),
            "--teacher.tile-px=32",
            "--teacher.num-steps=2",
            "--teacher.num-samples=2",
            *options,
        ]
    )


def test_teach_draws_the_training_part_and_reports(source, tmp_path, capsys):
    assert _teach(source, tmp_path / "cache") == 0
    cache = open_cache(tmp_path / "cache")
    assert len(cache) == 2 * 4
    assert cache.report["num_pairs"] == 2 and "passed" in cache.report
    captured = capsys.readouterr()
    assert "2 training pairs, 1 held out" in captured.out
    assert "where the sources disagree" in captured.out
    assert "8/8" in captured.err


def test_teach_again_draws_nothing_and_says_the_same(source, tmp_path, capsys):
    _teach(source, tmp_path)
    first = capsys.readouterr().out
    shard = tmp_path / "shard-00000.array_record"
    before = shard.stat().st_mtime_ns
    _teach(source, tmp_path)
    assert shard.stat().st_mtime_ns == before
    assert capsys.readouterr().out == first


def test_teach_refuses_a_folder_of_another_teacher(source, tmp_path):
    _teach(source, tmp_path)
    with pytest.raises(FusionProxyError, match="teacher.eta was 0.0, now 1.0"):
        _teach(source, tmp_path, "--teacher.eta=1.0")
