import math

import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.diffusion.time_embedding import timestep_embedding


def test_cosines_come_before_sines():
    result = timestep_embedding(jnp.array([0, 500]), 4)
    expected = [
        [1, 1, 0, 0],
        # Frequencies 1 and 10000^(-1/2) = 0.01.
        [math.cos(500), math.cos(5), math.sin(500), math.sin(5)],
    ]
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_frequencies_fall_from_one_by_equal_factors():
    width = 256
    angles = np.asarray(timestep_embedding(jnp.array([1]), width), np.float64)[0]
    frequencies = np.arctan2(angles[width // 2 :], angles[: width // 2])
    expected = np.exp(-np.log(10_000) * np.arange(128) / 128)
    np.testing.assert_allclose(frequencies, expected, rtol=1e-5)
