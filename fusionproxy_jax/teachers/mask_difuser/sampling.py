"""Samples of Mask-DiFuser: the chain that restores one image from both sources.

Infrared is view A and visible view B, as in the released script. Its other habits are
switches: a noise table looked up one place too far (`index_shift`) and a stretch of
every result to the whole range (`stretch`).
"""

import functools
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.config import MaskDifuserNetConfig
from fusionproxy_jax.diffusion.ddim import no_rectification, sample
from fusionproxy_jax.diffusion.parameterization import to_clean
from fusionproxy_jax.diffusion.schedule import NoiseLevels, linear_signal
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.teachers.mask_difuser.network import (
    NUM_TIMES,
    Encoded,
    MaskDifuserNet,
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Restorer:
    """A network with its parameters; a pytree whose only leaves are those."""

    params: Any
    config: MaskDifuserNetConfig = field(metadata={"static": True})
    # Computation dtype, by name.
    dtype: str = field(default="float32", metadata={"static": True})

    def encode(self, view_a: jax.Array, view_b: jax.Array) -> Encoded:
        """See `MaskDifuserNet.encode`."""
        return self._apply(view_a, view_b, method="encode")

    def denoise(
        self, noisy: jax.Array, index: jax.Array, encoded: Encoded
    ) -> jax.Array:
        """See `MaskDifuserNet.denoise`."""
        return self._apply(noisy, index, encoded, method="denoise")

    def _apply(self, *inputs: Any, method: str) -> Any:
        network = MaskDifuserNet(self.config, jnp.dtype(self.dtype))
        return network.apply({"params": self.params}, *inputs, method=method)


def restoration_levels(num_steps: int, *, index_shift: int) -> NoiseLevels:
    """Returns the levels t = k 1000 / num_steps, k descending to 0.

    The released spacing, kept without its shift too: it starts below the noisiest
    level, where an estimate is worth nothing yet, and a few steps are all there is. A
    single step starts at the last level instead, since t = 0 would take noise for an
    almost clean image.

    Args:
      num_steps: number of levels.
      index_shift: 0 takes abar[t], and 1 after the last step. 1 takes abar[t + 1], and
        abar[0] after the last step, so that some noise stays in the result.

    Raises:
      FusionProxyError: there are no such levels.
    """
    largest = NUM_TIMES - index_shift
    if not 1 <= num_steps <= largest:
        raise FusionProxyError(
            f"num_steps is {num_steps}; with index_shift {index_shift} it must be "
            f"between 1 and {largest}"
        )
    if num_steps == 1:
        index = np.array([largest - 1])
    else:
        index = np.arange(num_steps)[::-1] * NUM_TIMES // num_steps
    signal = linear_signal(NUM_TIMES)
    last = signal[0] if index_shift else 1.0
    visited = signal[index + index_shift]
    return NoiseLevels(
        index=jnp.asarray(index, jnp.int32),
        signal=jnp.asarray(visited, jnp.float32),
        next_signal=jnp.asarray(np.append(visited[1:], last), jnp.float32),
    )


def draw_samples(
    restorer: Restorer,
    visible: jax.Array,
    infrared: jax.Array,
    key: jax.Array,
    *,
    num_samples: int = 4,
    num_steps: int = 5,
    eta: float = 1.0,
    index_shift: int = 1,
    stretch: bool = False,
) -> jax.Array:
    """Returns RGB samples [n, h, w, 3] in [0, 1] of one pair, of any size.

    Colour is the network's own. Sample n depends on `key` and n alone, not on how many
    are drawn with it. Compiled once per padded size; `jax.vmap` over pairs works.

    Args:
      restorer: the network.
      visible: RGB [h, w, 3] in [0, 1].
      infrared: [h, w] in [0, 1].
      key: see `ddfm.image_key`.
      num_samples: N of Eq. 4.
      num_steps: diffusion steps.
      eta: 1 adds fresh noise in every step, as released; 0 none.
      index_shift: see `restoration_levels`.
      stretch: maps each sample's smallest and largest value to 0 and 1, as released; a
        random gain that has no place in an ensemble.

    Raises:
      FusionProxyError: no chain has this many steps.
    """
    height, width = infrared.shape
    visible = jnp.asarray(visible, jnp.float32)
    infrared = jnp.asarray(infrared, jnp.float32)
    view_a, view_b = (
        pad_to_multiple(2.0 * view - 1.0, restorer.config.stride)
        for view in (jnp.broadcast_to(infrared[..., None], visible.shape), visible)
    )
    samples = _restore(
        restorer,
        view_a,
        view_b,
        key,
        restoration_levels(num_steps, index_shift=index_shift),
        num_samples=num_samples,
        eta=eta,
    )[:, :height, :width]
    if stretch:
        low, high = (
            reduce(samples, axis=(1, 2, 3), keepdims=True)
            for reduce in (jnp.min, jnp.max)
        )
        return (samples - low) / jnp.maximum(high - low, 1e-6)
    return jnp.clip((samples + 1.0) / 2.0, 0.0, 1.0)


def pad_to_multiple(image: jax.Array, stride: int) -> jax.Array:
    """Reflects [h, w, c] at its lower and right edge, to sides that `stride` divides.

    An image smaller than what it lacks is reflected again and again.
    """
    height, width, _ = image.shape
    padding = ((0, -height % stride), (0, -width % stride), (0, 0))
    return jnp.pad(image, padding, "reflect")


@functools.partial(jax.jit, static_argnames=("num_samples", "eta"))
def _restore(
    restorer: Restorer,
    view_a: jax.Array,
    view_b: jax.Array,
    key: jax.Array,
    levels: NoiseLevels,
    *,
    num_samples: int,
    eta: float,
) -> jax.Array:
    """Returns the chain's last states [n, h, w, 3] for views [h, w, 3]."""
    # Nothing in an encoding depends on step or sample.
    encoded = jax.tree.map(
        lambda x: jnp.repeat(x, num_samples, axis=0),
        restorer.encode(view_a[None], view_b[None]),
    )

    def denoise(noisy: jax.Array, index: jax.Array, signal: jax.Array) -> jax.Array:
        output = restorer.denoise(noisy, jnp.full(num_samples, index), encoded)
        return to_clean(output, noisy, signal, restorer.config.prediction)

    keys = jax.vmap(lambda n: jax.random.fold_in(key, n))(jnp.arange(num_samples))
    return sample(
        denoise,
        no_rectification,
        (),
        keys,
        levels,
        shape=view_a.shape,
        eta=eta,
        # Clipping an estimate does not change what the network holds for noise.
        rederive_noise=False,
    )
