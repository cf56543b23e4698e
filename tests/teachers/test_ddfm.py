import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from fusionproxy_jax.config import SalientConfig
from fusionproxy_jax.diffusion.gaussian_prior import fit_gaussian_prior
from fusionproxy_jax.teachers.colour import luma
from fusionproxy_jax.teachers.ddfm import draw_luminance, draw_samples, image_key


@pytest.fixture(scope="module")
def pair():
    """Visible [h, w, 3], infrared [h, w] in [0, 1], sides no multiples of 32."""
    rows, columns = np.mgrid[:45, :70] / 40
    noise = np.random.default_rng(0).normal(scale=0.02, size=(45, 70))
    visible = 0.4 + 0.2 * np.sin(5 * rows + 3 * columns) + noise
    infrared = np.where((rows - 0.5) ** 2 + (columns - 1) ** 2 < 0.09, 0.9, 0.15)
    visible = np.stack([visible, 0.9 * visible, 0.7 * visible], -1)
    return visible.astype(np.float32), infrared.astype(np.float32)


@pytest.fixture(scope="module")
def prior(pair):
    return fit_gaussian_prior([np.asarray(luma(pair[0])), pair[1]])


@pytest.mark.parametrize("mode", ["balanced", "salient"])
def test_samples_are_images_of_the_visible_size_and_colour(prior, pair, mode):
    visible, infrared = pair
    samples = draw_samples(
        prior, visible, infrared, image_key(0, "x"), mode=mode, num_steps=4
    )
    assert samples.shape == (4, 45, 70, 3)
    assert 0 <= float(samples.min()) and float(samples.max()) <= 1
    chroma = samples - luma(samples)[..., None]
    limit = np.abs(visible - np.asarray(luma(visible))[..., None]) + 1e-4
    assert bool(jnp.all(jnp.abs(chroma) <= limit[None]))


def test_keys_decide_everything(prior, pair):
    def draw(key, num_samples=3):
        return draw_samples(prior, *pair, key, num_steps=4, num_samples=num_samples)

    np.testing.assert_array_equal(draw(image_key(0, "a")), draw(image_key(0, "a")))
    for other in (image_key(0, "b"), image_key(1, "a"), image_key(0, "a", 1)):
        assert float(jnp.abs(draw(image_key(0, "a")) - draw(other)).max()) > 1e-3
    # Sample n is the same whatever is drawn beside it.
    np.testing.assert_allclose(
        draw(image_key(0, "a"), 2), draw(image_key(0, "a"))[:2], atol=2e-4
    )


@pytest.fixture(scope="module")
def crops(real_data):
    """Luminance of four RoadScene pairs, 224x224 centre crops, in [0, 1]."""
    names = sorted(path.name for path in (real_data / "roadscene/visible").iterdir())
    crops = []
    for name in names:
        grey = [
            np.asarray(Image.open(real_data / f"roadscene/{kind}/{name}").convert("L"))
            for kind in ("visible", "infrared")
        ]
        height, width = grey[0].shape
        if min(height, width) < 224:
            continue
        top, left = (height - 224) // 2, (width - 224) // 2
        window = slice(top, top + 224), slice(left, left + 224)
        crops.append([image[window] / np.float32(255) for image in grey])
        if len(crops) == 4:
            return crops
    raise AssertionError("fewer than four RoadScene pairs of 224 px")


def _measure(crops, mode, num_steps, **options):
    """Returns infrared weight, SD, SD where sources disagree, |mean - average|."""
    prior = fit_gaussian_prior([visible for visible, _ in crops])
    rows = []
    for number, (visible, infrared) in enumerate(crops):
        options = {"eta": 0.0, "luma_range": "full"} | options
        fused = draw_luminance(
            prior,
            2 * visible - 1,
            2 * infrared - 1,
            image_key(0, str(number)),
            mode=mode,
            salient=SalientConfig(),
            num_samples=4,
            num_steps=num_steps,
            **options,
        )
        fused = (np.asarray(fused) + 1) / 2
        mean, variance = fused.mean(0), fused.var(0)
        # The table's threshold is 0.2 in [-1, 1].
        apart = np.abs(infrared - visible) > 0.1
        weight = (mean - visible)[apart] / (infrared - visible)[apart]
        rows.append(
            (
                np.median(weight),
                np.sqrt(variance.mean()),
                np.sqrt(variance[apart].mean()),
                np.abs(mean - (infrared + visible) / 2).mean(),
            )
        )
    return np.mean(rows, axis=0)


# The values were measured once by another implementation on four other crops of the
# same set with other seeds. Between two disjoint sets of four crops our own means moved
# by 0.03 in weight, 0.004 in SD and 0.006 in distance; two to three times that is
# allowed.


def test_released_ddfm_is_the_average_without_diversity(crops):
    weight, deviation, _, distance = _measure(crops, "released", 100)
    assert weight == pytest.approx(0.50, abs=0.02)
    assert deviation == pytest.approx(0.0019, abs=0.001)
    assert distance < 0.01


def test_the_studio_quirk_moves_released_ddfm_towards_infrared(crops):
    weight, deviation, _, distance = _measure(
        crops, "released", 100, luma_range="studio"
    )
    assert weight == pytest.approx(0.54, abs=0.09)
    assert weight > 0.51
    assert deviation == pytest.approx(0.0019, abs=0.001)
    assert distance == pytest.approx(0.027, abs=0.01)


def test_ancestral_sampling_gives_released_ddfm_some_diversity(crops):
    _, deviation, apart, _ = _measure(
        crops, "released", 100, luma_range="studio", eta=1.0
    )
    assert deviation == pytest.approx(0.0075, abs=0.003)
    assert apart == pytest.approx(0.0082, abs=0.003)


def test_ddfm_of_the_paper_collapses_to_one_source(crops):
    weight, _, _, distance = _measure(crops, "paper", 25)
    # 0.03 to 0.14 in the table, by variant; which source wins depends on the prior.
    assert weight < 0.2
    assert distance == pytest.approx(0.11, abs=0.04)


def test_balanced_keeps_both_sources_and_has_diversity(crops):
    weight, deviation, apart, distance = _measure(crops, "balanced", 25)
    assert weight == pytest.approx(0.44, abs=0.09)
    assert 0.3 < weight < 0.6
    assert 0.02 < deviation == pytest.approx(0.046, abs=0.012)
    assert apart == pytest.approx(0.053, abs=0.012)
    assert distance == pytest.approx(0.028, abs=0.012)
