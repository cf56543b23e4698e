import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fusionproxy_jax.config import DDFMConfig, TeacherConfig
from fusionproxy_jax.diffusion.gaussian_prior import fit_gaussian_prior
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.teachers.colour import luma
from fusionproxy_jax.teachers.ddfm import draw_samples
from fusionproxy_jax.teachers.registry import build_teachers

RNG = np.random.default_rng(0)
VISIBLE = RNG.random((2, 32, 40, 3), np.float32)
INFRARED = RNG.random((2, 32, 40), np.float32)
KEYS = jax.random.split(jax.random.key(0), 2)
PRIOR = fit_gaussian_prior(list(INFRARED))
CONFIG = TeacherConfig(
    teachers=("gaussian", "average"), ddfm=DDFMConfig(mode="balanced", num_steps=3)
)


def test_teachers_come_in_the_order_asked_for():
    assert [t.name for t in build_teachers(CONFIG, PRIOR)] == ["gaussian", "average"]


def test_a_batch_of_images_is_drawn_like_each_image_alone():
    gaussian, _ = build_teachers(CONFIG, PRIOR)
    together = gaussian.draw(VISIBLE, INFRARED, KEYS, 3)
    assert together.shape == (2, 3, 32, 40, 3)
    for image in range(2):
        alone = draw_samples(
            PRIOR, VISIBLE[image], INFRARED[image], KEYS[image],
            mode="balanced", num_steps=3, num_samples=3,
        )  # fmt: skip
        np.testing.assert_allclose(together[image], alone, atol=2e-3)


def test_the_average_has_no_opinion():
    _, average = build_teachers(CONFIG, PRIOR)
    samples = average.draw(VISIBLE, INFRARED, KEYS, 2)
    np.testing.assert_array_equal(samples[:, 0], samples[:, 1])
    expected = (luma(jnp.asarray(VISIBLE)) + INFRARED) / 2
    np.testing.assert_allclose(luma(samples[:, 0]), expected, atol=1e-5)


def test_shipped_teachers_draw_different_samples_of_a_pair():
    config = TeacherConfig(
        teachers=("ddfm", "mask_difuser"), ddfm=DDFMConfig(num_steps=2), num_samples=2
    )
    for teacher in build_teachers(config, PRIOR):
        samples = teacher.draw(VISIBLE[:1], INFRARED[:1], KEYS[:1], 2)
        assert samples.shape == (1, 2, 32, 40, 3)
        assert len(teacher.fingerprint) == 16
        assert 0 <= float(samples.min()) and float(samples.max()) <= 1
        assert float(jnp.abs(samples[:, 0] - samples[:, 1]).max()) > 1e-3


def test_missing_weights_are_named():
    config = TeacherConfig(teachers=("ddfm",), ddfm=DDFMConfig(weights="nowhere.pt"))
    with pytest.raises(FusionProxyError, match="no weights file nowhere.pt"):
        build_teachers(config, PRIOR)
