"""What a view loses in training: blur, noise, specks, phases, tone, banding.

Each takes one image [h, w, c] in [-1, 1] and a key that also draws its strength. The
first five are the published ones; banding is ours, as thermal cameras have it.
"""

import jax
import jax.numpy as jnp

_NUM_PHASES = 5


def blur(image: jax.Array, key: jax.Array) -> jax.Array:
    """Gaussian blur, kernel of 3, 5 or 7 px: sigma 0.8, 1.1 or 1.4 px."""
    sigma = jax.random.choice(key, jnp.array([0.8, 1.1, 1.4]))
    taps = jnp.exp(-0.5 * (jnp.arange(-3, 4) / sigma) ** 2)
    return _separable(image, taps / jnp.sum(taps))


def noise(image: jax.Array, key: jax.Array) -> jax.Array:
    """Additive Gaussian noise, standard deviation 5 to 35 of 255 levels."""
    strength_key, noise_key = jax.random.split(key)
    deviation = jax.random.uniform(
        strength_key, minval=2 * 5.0 / 255.0, maxval=2 * 35.0 / 255.0
    )
    return jnp.clip(
        image + deviation * jax.random.normal(noise_key, image.shape), -1.0, 1.0
    )


def specks(image: jax.Array, key: jax.Array) -> jax.Array:
    """White 2x2 specks, one on 16 px, blurred over 5x5 and laid on with 0.3."""
    height, width = image.shape[:2]
    hit = jax.random.bernoulli(key, 1 / 16, (height, width, 1)).astype(image.dtype)
    for axis in (0, 1):
        hit = jnp.maximum(hit, jnp.roll(hit, 1, axis))
    soft = _separable(hit, jnp.array([0.0, 0.2, 0.2, 0.2, 0.2, 0.2, 0.0]))
    return image + 0.3 * soft * (1.0 - image)


def phases(image: jax.Array, key: jax.Array) -> jax.Array:
    """Swaps the phases of five pairs of coarse 2-D frequencies, in every channel.

    The release transforms the width and colour axes, which looks unintended.
    """
    height, width = image.shape[:2]
    spectrum = jnp.fft.rfft2(image, axes=(0, 1))
    rows_key, columns_key = jax.random.split(key)
    # Never the mean, whose phase is its sign.
    rows = jax.random.randint(rows_key, (2, _NUM_PHASES), 1, height // 4)
    columns = jax.random.randint(columns_key, (2, _NUM_PHASES), 1, width // 4)
    magnitude, phase = jnp.abs(spectrum), jnp.angle(spectrum)
    first, second = zip(rows, columns, strict=True)
    swapped = phase.at[first].set(phase[second]).at[second].set(phase[first])
    back = jnp.fft.irfft2(
        magnitude * jnp.exp(1j * swapped), s=(height, width), axes=(0, 1)
    )
    return jnp.clip(back, -1.0, 1.0).astype(image.dtype)


def tone(image: jax.Array, key: jax.Array) -> jax.Array:
    """Gamma with exponent 1 / g, g uniform in 0.3 to 3."""
    gamma = jax.random.uniform(key, minval=0.3, maxval=3.0)
    # The floor keeps the power finite where the image is black.
    return 2.0 * jnp.maximum((image + 1.0) / 2.0, 1e-4) ** (1.0 / gamma) - 1.0


def banding(image: jax.Array, key: jax.Array) -> jax.Array:
    """Adds an offset to every row or every column, up to 16 of 255 levels."""
    side_key, strength_key, offset_key = jax.random.split(key, 3)
    strength = jax.random.uniform(strength_key, minval=2.0, maxval=16.0) * 2.0 / 255.0
    rows_key, columns_key = jax.random.split(offset_key)
    rows = jax.random.normal(rows_key, (image.shape[0], 1, 1))
    columns = jax.random.normal(columns_key, (1, image.shape[1], 1))
    offset = jnp.where(jax.random.bernoulli(side_key), rows, columns)
    return jnp.clip(image + strength * offset, -1.0, 1.0)


DEGRADATIONS = (blur, noise, specks, phases, tone, banding)


def degrade(image: jax.Array, key: jax.Array) -> jax.Array:
    """Returns the image under one of the degradations, each equally likely."""
    kind_key, own_key = jax.random.split(key)
    kind = jax.random.randint(kind_key, (), 0, len(DEGRADATIONS))
    return jax.lax.switch(kind, DEGRADATIONS, image, own_key)


def _separable(image: jax.Array, taps: jax.Array) -> jax.Array:
    """Returns [h, w, c] filtered with seven taps along both axes, edges repeated."""
    for axis in (0, 1):
        width = [(0, 0)] * 3
        width[axis] = (3, 3)
        padded = jnp.pad(image, width, mode="edge")
        size = image.shape[axis]
        image = sum(
            taps[start] * jax.lax.slice_in_dim(padded, start, start + size, axis=axis)
            for start in range(7)
        )
    return image
