import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from tiny_student import TINY, random_params

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.metrics import METRICS
from fusionproxy_jax.evaluation.survey import measure_pair
from fusionproxy_jax.input_pipeline.split import split_pairs
from fusionproxy_jax.models.variants import build_student
from fusionproxy_jax.runtime.pairing import find_pairs
from fusionproxy_jax.sweeps.scoring import HeldOutPairs


@pytest.fixture(scope="module")
def params():
    return random_params()


def test_scores_are_what_evaluate_says_of_the_student(pairs, params):
    held_out = HeldOutPairs([str(pairs)], validation_fraction=0.5)
    scores = held_out.score(TINY, params)
    assert scores.num_pairs == len(held_out) == 2

    def fuse(visible, infrared):
        images = visible[None] / 255, infrared[None, ..., None] / 255
        fused = build_student(TINY).apply({"params": params}, *map(jnp.float32, images))
        return np.round(255 * np.clip(fused[0], 0, 1)).astype(np.uint8)

    paths = find_pairs(pairs)
    _, chosen = split_pairs([(path.id, path.group) for path in paths], 0.5)
    rows = [measure_pair(paths[index], {"x": fuse})["x"] for index in chosen]
    for metric in METRICS:
        expected = np.mean([row[metric] for row in rows])
        # Compiled as a whole, single pixels may round to the other side.
        np.testing.assert_allclose(scores.scores[metric], expected, rtol=2e-3)


def test_a_stop_leaves_no_scores(pairs, params):
    held_out = HeldOutPairs([str(pairs)], validation_fraction=0.5)
    asked = []

    def stop():
        asked.append(True)
        return len(asked) > 1

    assert held_out.score(TINY, random_params(), stop=stop) is None


@pytest.mark.parametrize(("named", "fraction"), [(False, 0.5), (True, 0.0)])
def test_without_sources_or_fraction_nothing_is_held_out(
    pairs, params, named, fraction
):
    sources = [str(pairs)] if named else []
    held_out = HeldOutPairs(sources, validation_fraction=fraction)
    assert len(held_out) == 0
    assert held_out.score(TINY, params) is None


def test_a_source_that_is_not_there_is_found_out_at_once(tmp_path):
    with pytest.raises(FusionProxyError, match="there is no folder"):
        HeldOutPairs([str(tmp_path / "none")], validation_fraction=0.5)


def test_a_damaged_image_is_named(pairs, params, tmp_path):
    copy = shutil.copytree(pairs, tmp_path / "pairs")
    for path in (copy / "visible").iterdir():
        path.write_bytes(b"no image")
    held_out = HeldOutPairs([str(copy)], validation_fraction=0.5)
    with pytest.raises(FusionProxyError, match=r"visible/\d.png cannot be read"):
        held_out.score(TINY, params)
