import numpy as np
import pytest

from fusionproxy_jax.config import DDFMConfig, TeacherConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.controls import CONTROLS
from fusionproxy_jax.teachers.ensemble_fuser import (
    fit_prior,
    make_ensemble_fuser,
    parse_ensemble,
)

CONFIG = TeacherConfig(num_samples=2, ddfm=DDFMConfig(num_steps=3))
RNG = np.random.default_rng(0)
VISIBLE = RNG.integers(0, 256, (40, 50, 3), np.uint8)
INFRARED = RNG.integers(0, 256, (40, 50), np.uint8)


def test_an_ensemble_is_named_by_teachers_and_a_mode():
    config = parse_ensemble("gaussian:balanced+average", CONFIG)
    assert config.teachers == ("gaussian", "average")
    assert config.ddfm.mode == "balanced" and config.ddfm.num_steps == 3
    assert parse_ensemble("ddfm", CONFIG).ddfm.mode == CONFIG.ddfm.mode


@pytest.mark.parametrize("text", ["ddpm", "ddfm:sharp", "ddfm:paper+gaussian:released"])
def test_another_name_is_refused_with_those_there_are(text):
    with pytest.raises(FusionProxyError, match="no ensemble .*mask_difuser.*balanced"):
        parse_ensemble(text, CONFIG)


def test_the_average_is_the_control_of_that_name():
    prior = fit_prior([(VISIBLE, INFRARED)])
    fuse = make_ensemble_fuser(parse_ensemble("average", CONFIG), prior)
    fused = fuse(VISIBLE, INFRARED)
    assert fused.shape == VISIBLE.shape and fused.dtype == np.uint8
    grey = np.array([0.299, 0.587, 0.114])
    difference = fused @ grey - CONTROLS["mean"](VISIBLE, INFRARED) @ grey
    # The control clips colours that leave the range, which changes luminance.
    assert np.median(np.abs(difference)) < 1.0


def test_an_ensemble_is_the_mean_over_its_teachers():
    prior = fit_prior([(VISIBLE, INFRARED)])
    alone = [
        make_ensemble_fuser(parse_ensemble(text, CONFIG), prior)(VISIBLE, INFRARED)
        for text in ("gaussian", "average")
    ]
    both = make_ensemble_fuser(parse_ensemble("gaussian+average", CONFIG), prior)
    expected = np.mean(np.stack(alone).astype(float), axis=0)
    np.testing.assert_allclose(both(VISIBLE, INFRARED), expected, atol=1.01)
