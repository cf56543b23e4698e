"""What the compact teachers' networks learn, from batches of pairs in [0, 1]."""

import jax
import jax.numpy as jnp

from fusionproxy_jax.config import SalientConfig, UNetConfig
from fusionproxy_jax.diffusion.objective import add_noise, mean_squared_error
from fusionproxy_jax.diffusion.parameterization import min_snr_weight, to_target
from fusionproxy_jax.diffusion.unet import UNet
from fusionproxy_jax.teachers.colour import luma
from fusionproxy_jax.teachers.mask_difuser.network import MaskDifuserNet
from fusionproxy_jax.teachers.mask_difuser.objective import restoration_loss
from fusionproxy_jax.teachers.mask_difuser.views import draw_example
from fusionproxy_jax.training.update import Batch, Circumstances, Objective


def prior_objective(network: UNet, config: UNetConfig) -> Objective:
    """Returns DDFM's: denoise the luminance of either camera, half and half.

    A prior of visible images alone would pull fused images towards the visible one.
    """

    def objective(params, batch: Batch, circumstances: Circumstances):
        own_keys, noise_keys = _split(circumstances.keys)
        clean = jax.vmap(_one_luminance)(batch["visible"], batch["infrared"], own_keys)
        states = add_noise(clean, noise_keys)
        prediction = network.apply({"params": params}, states.noisy, states.index)
        signal = states.signal[:, None, None, None]
        target = to_target(clean, states.noise, signal, config.prediction)
        error = mean_squared_error(prediction.astype(jnp.float32), target)
        loss = min_snr_weight(states.signal, config.prediction) * error
        return loss, {"error": error}

    return objective


def restorer_objective(
    network: MaskDifuserNet, *, conflict_share: float, salient: SalientConfig
) -> Objective:
    """Returns Mask-DiFuser's: find the one image that two views come from."""

    def objective(params, batch: Batch, circumstances: Circumstances):
        example_keys, noise_keys = _split(circumstances.keys)

        def draw(visible, infrared, key):
            return draw_example(
                2.0 * visible - 1.0,
                2.0 * infrared - 1.0,
                key,
                conflict_share=conflict_share,
                config=salient,
            )

        views = jax.vmap(draw)(batch["visible"], batch["infrared"], example_keys)
        states = add_noise(views.clean, noise_keys)
        estimate = network.apply(
            {"params": params}, views.view_a, views.view_b, states.noisy, states.index
        )
        return restoration_loss(
            estimate.astype(jnp.float32), views.clean, states.signal
        )

    return objective


def _one_luminance(
    visible: jax.Array, infrared: jax.Array, key: jax.Array
) -> jax.Array:
    """Returns [h, w, 1] in [-1, 1] of one camera, with a little tone and contrast."""
    camera_key, gamma_key, contrast_key = jax.random.split(key, 3)
    image = jnp.where(
        jax.random.bernoulli(camera_key), luma(visible)[..., None], infrared
    )
    gamma = jnp.exp(jax.random.uniform(gamma_key, minval=-0.3, maxval=0.3))
    image = jnp.maximum(image, 1e-4) ** gamma
    contrast = jax.random.uniform(contrast_key, minval=0.8, maxval=1.2)
    mean = jnp.mean(image)
    return 2.0 * jnp.clip(mean + contrast * (image - mean), 0.0, 1.0) - 1.0


def _split(keys: jax.Array) -> tuple[jax.Array, jax.Array]:
    pairs = jax.vmap(jax.random.split)(keys)
    return pairs[:, 0], pairs[:, 1]
