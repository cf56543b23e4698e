import jax.numpy as jnp
import numpy as np
import pytest
import torch

from fusionproxy_jax.models.resampling import depth_to_space, upsample


@pytest.mark.parametrize("block", [2, 4])
def test_depth_to_space_equals_pytorch_pixel_shuffle(block):
    cells = block**2
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 3 * cells))
    x = x.astype(np.float32)
    # PyTorch orders channels (colour, row, column), ours (row, column, colour).
    nchw = x.reshape(2, 3, 5, cells, 3).transpose(0, 4, 3, 1, 2)
    nchw = torch.from_numpy(nchw.reshape(2, 3 * cells, 3, 5).copy())
    expected = torch.pixel_shuffle(nchw, block).numpy()
    np.testing.assert_array_equal(
        depth_to_space(jnp.asarray(x), block), expected.transpose(0, 2, 3, 1)
    )


def test_depth_to_space_places_groups_row_by_row():
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4)
    np.testing.assert_array_equal(
        depth_to_space(jnp.asarray(x))[0, :, :, 0], [[0, 1], [2, 3]]
    )


def test_upsampling_equals_pytorch_bilinear():
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 4)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(x.transpose(0, 3, 1, 2).copy()),
        scale_factor=2,
        mode="bilinear",
        align_corners=False,
    )
    np.testing.assert_allclose(
        upsample(jnp.asarray(x)),
        expected.numpy().transpose(0, 2, 3, 1),
        rtol=1e-5,
        atol=1e-6,
    )
