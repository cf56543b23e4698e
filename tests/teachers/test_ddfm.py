import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from fusionproxy_jax.config import SalientConfig, UNetConfig
from fusionproxy_jax.diffusion.gaussian_prior import fit_gaussian_prior
from fusionproxy_jax.diffusion.learned_prior import LearnedPrior
from fusionproxy_jax.teachers.colour import luma
from fusionproxy_jax.teachers.ddfm import draw_luminance, draw_samples, image_key
from fusionproxy_jax.teachers.pretrained import prior_shapes


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


def _colour_prior(channels=3, seed=0):
    """A tiny random network over RGB (noise and variance out) or luminance."""
    config = UNetConfig(
        in_channels=channels,
        out_channels=2 * channels if channels == 3 else 1,
        base_width=8,
        multipliers=(1, 2),
        num_blocks=1,
        attention_factors=(),
        num_groups=4,
        prediction="noise" if channels == 3 else "velocity",
    )
    rng = np.random.default_rng(seed)
    params = jax.tree.map(
        lambda leaf: rng.normal(scale=0.1, size=leaf.shape).astype(np.float32),
        prior_shapes(config),
    )
    return LearnedPrior(params, config)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("luma_range", ["full", "studio"])
def test_the_last_estimate_s_luminance_is_the_rectified_one(pair, channels, luma_range):
    visible, infrared = pair
    prior = _colour_prior(channels)
    # One pixel's weight on infrared is convex in mode `released`, whatever the prior
    # guesses; so the result lies between the sources.
    samples = draw_samples(
        prior, visible, infrared, image_key(0, "x"), mode="released", num_steps=3,
        luma_range=luma_range,
    )  # fmt: skip
    fused, seen = np.asarray(luma(samples)), np.asarray(luma(visible))
    slack = 1e-3 if luma_range == "full" else 0.13
    assert np.all(fused >= np.minimum(seen, infrared) - slack)
    assert np.all(fused <= np.maximum(seen, infrared) + slack)


def test_colour_is_the_visible_image_s_even_with_a_colour_prior(pair):
    visible, infrared = pair
    samples = draw_samples(
        _colour_prior(), visible, infrared, image_key(0, "x"), num_steps=3
    )
    chroma = samples - luma(samples)[..., None]
    limit = np.abs(visible - np.asarray(luma(visible))[..., None]) + 1e-4
    assert bool(jnp.all(jnp.abs(chroma) <= limit[None]))


def test_locked_chroma_is_what_the_prior_sees(pair):
    visible, infrared = pair
    prior, key = _colour_prior(), image_key(0, "x")
    free, locked = (
        draw_samples(prior, visible, infrared, key, num_steps=4, chroma=chroma)
        for chroma in ("prior", "visible")
    )
    assert float(jnp.abs(free - locked).max()) > 1e-3
    # A luminance prior has no chroma to lock.
    grey = _colour_prior(1)
    np.testing.assert_array_equal(
        draw_samples(grey, visible, infrared, key, num_steps=2, chroma="visible"),
        draw_samples(grey, visible, infrared, key, num_steps=2),
    )


def test_stretching_fills_the_range(prior, pair):
    plain, stretched = (
        luma(
            draw_samples(prior, *pair, image_key(0, "x"), num_steps=3, stretch=stretch)
        )
        for stretch in (False, True)
    )
    assert float(plain.min()) > 0.05
    np.testing.assert_allclose(jnp.min(stretched, axis=(1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(jnp.max(stretched, axis=(1, 2)), 1, atol=1e-5)


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
