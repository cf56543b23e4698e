import jax.numpy as jnp
import pytest

from fusionproxy_jax.panel.backbone import Backbone
from fusionproxy_jax.panel.description import describe_backbone


def test_size_grid_and_bytes_follow_from_the_shapes():
    params = {"a": jnp.zeros((3, 4)), "b": {"c": jnp.zeros(5)}}

    def apply(params, images):
        return jnp.zeros((len(images), images.shape[1] // 8, images.shape[2] // 16, 6))

    told = describe_backbone(Backbone("net", "0" * 16, params, apply))
    assert (told.name, told.parameters) == ("net", 17)
    assert (told.grid, told.channels) == ((32, 16), 6)
    assert told.megabytes == pytest.approx(32 * 16 * 6 * 2 / 1e6)
    wide = describe_backbone(
        Backbone("net", "0" * 16, params, apply), height=64, width=320
    )
    assert wide.grid == (8, 20)
