import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from scipy import ndimage

from fusionproxy_jax import misalignment as library
from fusionproxy_jax.misalignment import Misalignment, sample_misalignment

warp_infrared = jax.jit(library.warp_infrared)


def random_infrared(shape=(3, 24, 31, 1)):
    return jnp.asarray(np.random.default_rng(0).random(shape, np.float32))


def motion_of(shifts, angles_deg):
    return Misalignment(
        jnp.array(shifts, jnp.float32), jnp.deg2rad(jnp.array(angles_deg, jnp.float32))
    )


def test_the_warp_is_equation_14():
    infrared = random_infrared()
    motion = motion_of([[1.3, -2.6], [-40.0, 3.5], [0.0, 7.25]], [5.0, -2.0, 90.0])
    warped = warp_infrared(infrared, motion)
    for index in range(3):
        expected = oracles.warp(
            np.asarray(infrared[index, ..., 0]),
            *np.asarray(motion.translation_px[index], float),
            float(motion.rotation_rad[index]),
        )
        np.testing.assert_allclose(warped[index, ..., 0], expected, atol=2e-5)


def test_no_motion_is_the_identity_bit_for_bit():
    infrared = random_infrared()
    motion = motion_of(np.zeros((3, 2)), np.zeros(3))
    np.testing.assert_array_equal(warp_infrared(infrared, motion), infrared)


def test_a_shift_by_whole_pixels_moves_content_right_and_down():
    infrared = random_infrared()
    motion = motion_of([[4.0, 2.0]] * 3, np.zeros(3))
    warped = warp_infrared(infrared, motion)
    np.testing.assert_array_equal(warped[:, 2:, 4:], infrared[:, :-2, :-4])


def test_the_edge_is_repeated_outside_the_image():
    infrared = random_infrared()
    motion = motion_of([[4.0, 0.0]] * 3, np.zeros(3))
    warped = warp_infrared(infrared, motion)
    np.testing.assert_array_equal(
        warped[:, :, :4], infrared[:, :, :1].repeat(4, axis=2)
    )


def test_a_rotation_turns_about_the_centre_as_scipy_does():
    infrared = random_infrared((1, 24, 31, 1))
    # scipy's positive angles are counter-clockwise as seen.
    expected = ndimage.rotate(
        np.asarray(infrared[0, ..., 0], np.float64),
        -12.0,
        reshape=False,
        order=1,
        mode="nearest",
    )
    warped = warp_infrared(infrared, motion_of([[0.0, 0.0]], [12.0]))
    np.testing.assert_allclose(warped[0, ..., 0], expected, atol=2e-5)


def test_a_quarter_turn_of_a_square_is_exact_and_clockwise():
    infrared = random_infrared((1, 8, 8, 1))
    warped = warp_infrared(infrared, motion_of([[0.0, 0.0]], [90.0]))
    expected = jnp.rot90(infrared[0, ..., 0], k=-1)
    np.testing.assert_allclose(warped[0, ..., 0], expected, atol=1e-5)


def test_each_image_gets_its_own_draw_within_range():
    motion = sample_misalignment(jax.random.key(1), 500, probability=1.0)
    shift, turn = motion.translation_px, jnp.rad2deg(motion.rotation_rad)
    assert len(np.unique(shift)) == 1000 and len(np.unique(turn)) == 500
    assert 9.5 < jnp.abs(shift).max() <= 10 and 1.9 < jnp.abs(turn).max() <= 2
    # Uniform on [-a, a] has standard deviation a / sqrt(3).
    np.testing.assert_allclose(jnp.std(shift, axis=0), 10 / np.sqrt(3), rtol=0.1)
    np.testing.assert_allclose(jnp.std(turn), 2 / np.sqrt(3), rtol=0.1)
    draws = jnp.column_stack([shift, turn])
    correlation = np.corrcoef(draws, rowvar=False)
    assert np.abs(correlation - np.eye(3)).max() < 0.15


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_the_probability_is_that_of_an_image_to_move(probability):
    motion = sample_misalignment(jax.random.key(2), 1000, probability=probability)
    moved = np.any(motion.translation_px != 0, axis=1)
    np.testing.assert_array_equal(moved, motion.rotation_rad != 0)
    assert abs(moved.mean() - probability) < 0.05


def test_zero_ranges_leave_the_image_alone_whatever_the_probability():
    motion = sample_misalignment(
        jax.random.key(3), 3, translation_px=0.0, rotation_deg=0.0, probability=1.0
    )
    infrared = random_infrared()
    np.testing.assert_array_equal(warp_infrared(infrared, motion), infrared)


def test_the_same_key_gives_the_same_draw_under_jit():
    draw = jax.jit(lambda key: sample_misalignment(key, 4))
    first, again, other = (draw(jax.random.key(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.translation_px, again.translation_px)
    assert not np.array_equal(first.translation_px, other.translation_px)


def test_bfloat16_is_interpolated_in_float32_and_returned_as_it_came():
    infrared = random_infrared().astype(jnp.bfloat16)
    motion = motion_of([[1.3, -2.6]] * 3, [2.0] * 3)
    warped = warp_infrared(infrared, motion)
    exact = warp_infrared(infrared.astype(jnp.float32), motion)
    assert warped.dtype == jnp.bfloat16
    np.testing.assert_array_equal(warped, exact.astype(jnp.bfloat16))
