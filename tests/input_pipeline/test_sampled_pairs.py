import numpy as np
import pytest
from tiny_deployed import camera_pairs, write_pairs

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.pairs import load_pairs
from fusionproxy_jax.input_pipeline.sampled_pairs import SampledPairs
from fusionproxy_jax.input_pipeline.split import split_pairs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("data") / "scenes", num_pairs=6)


def test_pairs_come_as_the_camera_took_them(folder):
    pairs = SampledPairs([folder], 100)
    assert [name for name, _ in pairs] == [f"scenes/{index}" for index in range(6)]
    for (_, given), (_, wanted) in zip(pairs, camera_pairs(6), strict=True):
        for image, expected in zip(given, wanted, strict=True):
            assert image.dtype == np.uint8
            np.testing.assert_array_equal(image, expected)


def test_the_same_seed_draws_the_same_pairs_and_another_others(folder):
    def drawn(seed):
        return [name for name, _ in SampledPairs([folder], 3, seed=seed)]

    assert drawn(0) == drawn(0)
    assert len({tuple(drawn(seed)) for seed in range(8)}) > 3
    assert all(len(set(drawn(seed))) == 3 for seed in range(8))


def test_no_pairs_are_one_sentence(folder):
    with pytest.raises(FusionProxyError, match="number of pairs is 0"):
        SampledPairs([folder], 0)
    with pytest.raises(FusionProxyError, match="no data source"):
        SampledPairs([], 3)
    with pytest.raises(IndexError):
        SampledPairs([folder], 2)[2]


def test_the_two_sides_of_the_split_are_those_of_training(folder):
    def drawn(**settings):
        return [name for name, _ in SampledPairs([folder], 100, **settings)]

    pairs = load_pairs([folder])
    for fraction in (0.1, 0.5):
        sides = split_pairs(pairs.ids_and_groups, fraction)
        for split, indices in zip(("train", "validation"), sides, strict=True):
            wanted = [f"scenes/{index}" for index in indices]
            assert drawn(split=split, validation_fraction=fraction) == wanted
    assert len(drawn(split="validation", validation_fraction=0.5)) == 3
