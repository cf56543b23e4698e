import numpy as np
import pytest

from fusionproxy_jax.diffusion.schedule import (
    linear_signal,
    noise_levels,
    respaced_indices,
)
from fusionproxy_jax.errors import FusionProxyError


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (0, 0.9999),
        (1, 0.99978009),
        (200, 0.65634701),
        (400, 0.19357201),
        (600, 0.02556749),
        (800, 0.00150752),
        (999, 4.03583e-5),
    ],
)
def test_the_linear_schedule_has_the_released_values(index, expected):
    np.testing.assert_allclose(linear_signal()[index], expected, rtol=1e-5)


def test_a_hundred_steps_are_respaced_with_a_fractional_stride():
    indices = respaced_indices(100)
    assert len(set(indices)) == 100
    expected = [0, 10, 20, 30, 40, 50, 61, 71, 81, 91, 101, 111]
    assert indices[:12].tolist() == expected
    assert indices[-3:].tolist() == [979, 989, 999]


def test_all_steps_are_the_training_schedule():
    assert respaced_indices(1000).tolist() == list(range(1000))


def test_levels_run_from_noise_to_the_clean_image():
    levels = noise_levels(7)
    assert levels.index[0] == 999 and levels.index[-1] == 0
    np.testing.assert_array_equal(levels.next_signal[:-1], levels.signal[1:])
    assert levels.next_signal[-1] == 1.0


def test_a_single_step_starts_from_pure_noise():
    assert respaced_indices(1).tolist() == [999]


@pytest.mark.parametrize("num_steps", [0, 1001])
def test_an_impossible_number_of_steps_is_refused(num_steps):
    with pytest.raises(FusionProxyError, match=f"num_steps is {num_steps}"):
        respaced_indices(num_steps)
