import jax
import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.config.networks import UNetConfig
from fusionproxy_jax.diffusion.ddim import no_rectification, sample
from fusionproxy_jax.diffusion.gaussian_prior import fit_gaussian_prior, make_denoiser
from fusionproxy_jax.diffusion.learned_prior import LearnedPrior
from fusionproxy_jax.diffusion.schedule import noise_levels
from fusionproxy_jax.diffusion.unet import UNet


def _prior(**options):
    config = UNetConfig(
        base_width=8,
        multipliers=(1,),
        num_blocks=1,
        attention_factors=(),
        num_groups=4,
        **options,
    )
    shapes = jax.eval_shape(
        UNet(config).init,
        jax.random.key(0),
        jnp.zeros((1, config.stride, config.stride, config.in_channels)),
        jnp.zeros((1,), jnp.int32),
    )
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(0.3 * rng.normal(size=leaf.shape), jnp.float32),
        shapes["params"],
    )
    return LearnedPrior(params, config)


@jax.jit
def _denoised(prior, noisy, index, signal):
    height, width = noisy.shape[1:3]
    return prior.denoiser(height, width)(noisy, index, signal)


# A training index and a signal that need not belong together.
LEVEL = (jnp.int32(740), jnp.float32(0.36))


def _luminance_prior(**options):
    return _prior(
        in_channels=1, out_channels=1, patch_px=2, prediction="velocity", **options
    )


def test_the_first_half_of_an_output_with_variance_is_the_prediction():
    prior = _prior(in_channels=3, out_channels=6, prediction="noise")
    noisy = jax.random.normal(jax.random.key(2), (2, 4, 6, 3))
    output = jax.jit(UNet(prior.config).apply)(
        {"params": prior.params}, noisy, jnp.array([740, 740])
    )
    result = _denoised(prior, noisy, *LEVEL)
    expected = (noisy - 0.8 * output[..., :3]) / 0.6
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def test_luminance_needs_no_channel_axis():
    prior = _luminance_prior()
    noisy = jax.random.normal(jax.random.key(2), (3, 8, 12))
    result = _denoised(prior, noisy, *LEVEL)
    assert result.shape == noisy.shape
    output = jax.jit(UNet(prior.config).apply)(
        {"params": prior.params}, noisy[..., None], jnp.full(3, 740)
    )
    expected = 0.6 * noisy - 0.8 * output[..., 0]
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
    with_axis = jax.eval_shape(_denoised, prior, noisy[..., None], *LEVEL)
    assert with_axis.shape == (*noisy.shape, 1)


def test_the_priors_only_leaves_are_its_parameters():
    prior = _luminance_prior()
    leaves, tree = jax.tree.flatten(prior)
    own = jax.tree.leaves(prior.params)
    assert all(a is b for a, b in zip(leaves, own, strict=True))
    rebuilt = tree.unflatten(leaves)
    assert (rebuilt.config, rebuilt.dtype) == (prior.config, prior.dtype)


def test_half_precision_still_gives_float32_estimates():
    prior = _luminance_prior()
    half = LearnedPrior(prior.params, prior.config, dtype="bfloat16")
    noisy = jax.random.normal(jax.random.key(2), (3, 8, 12))
    exact, result = (np.asarray(_denoised(p, noisy, *LEVEL)) for p in (prior, half))
    assert result.dtype == np.float32
    assert not np.array_equal(result, exact)
    assert np.linalg.norm(result - exact) < 0.05 * np.linalg.norm(exact)


def test_priors_tell_their_channels_and_stride():
    rng = np.random.default_rng(0)
    gaussian = fit_gaussian_prior([rng.uniform(size=(8, 8))])
    assert (gaussian.channels, gaussian.stride) == (1, 1)
    learned = _luminance_prior()
    assert (learned.channels, learned.stride) == (1, 2)
    assert _prior(in_channels=3, out_channels=6).channels == 3


def test_both_priors_drive_the_same_chain():
    rng = np.random.default_rng(0)
    gaussian = fit_gaussian_prior([rng.uniform(size=(16, 16)) for _ in range(2)])
    keys = jax.random.split(jax.random.key(0), 2)
    for prior in (gaussian, _luminance_prior()):
        images = sample(
            prior.denoiser(8, 12),
            no_rectification,
            (),
            keys,
            noise_levels(3),
            shape=(8, 12),
        )
        assert images.shape == (2, 8, 12)
        assert float(jnp.max(jnp.abs(images))) <= 1.0
        assert float(jnp.std(images[0] - images[1])) > 0.01


def test_the_gaussian_priors_denoiser_is_its_wiener_filter():
    rng = np.random.default_rng(0)
    prior = fit_gaussian_prior([rng.uniform(size=(16, 16))])
    noisy = jax.random.normal(jax.random.key(0), (1, 6, 8))
    level = (jnp.int32(0), jnp.float32(0.5))
    np.testing.assert_array_equal(
        prior.denoiser(6, 8)(noisy, *level),
        make_denoiser(prior, height=6, width=8)(noisy, *level),
    )
