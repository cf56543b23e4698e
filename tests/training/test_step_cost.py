import jax
import jax.numpy as jnp
import numpy as np
from tiny_training import tiny_config

from fusionproxy_jax.config import PanelConfig
from fusionproxy_jax.panel.backbone import Backbone
from fusionproxy_jax.training.panel_features import make_panel_features
from fusionproxy_jax.training.step_cost import batch_shapes, step_cost


def product_panel(width):
    """One backbone: a product of every pixel with a matrix 3 x width, on its own."""

    def apply(params, images):
        return jnp.einsum("bhwi,io->bhwo", images, params["kernel"])

    params = {"kernel": jax.ShapeDtypeStruct((3, width), jnp.float32)}
    return make_panel_features(
        [Backbone("product", "", params, apply)], [np.ones(width)], [1.0]
    )


def test_a_panel_adds_its_operations_and_what_it_holds(tiny_student):
    config = tiny_config(panel=PanelConfig(grid=32))
    without, narrow, wide = (
        step_cost(config, panel)
        for panel in (None, product_panel(16), product_panel(48))
    )
    assert without.flops < narrow.flops < wide.flops
    # Once forward and once backward for every pixel of the batch; rematerialised, so
    # that a third time may be added.
    places = config.data.batch_size * config.data.crop_px**2
    product = 2 * 3 * (48 - 16) * places
    assert wide.flops - narrow.flops >= 2 * product
    # The kernel and the scale, and targets on the images' own grid.
    held = 4 * ((3 + 1) * (48 - 16) + places * (48 - 16))
    assert wide.argument_bytes - narrow.argument_bytes == held


def test_batches_hold_what_the_panel_needs():
    config = tiny_config(panel=PanelConfig(grid=8))
    shapes = batch_shapes(config, product_panel(5))
    assert shapes["feature_target/product"].shape == (4, 32, 32, 5)
    assert shapes["feature_variance/product"].shape == (4, 8, 8)
    assert "feature_target/product" not in batch_shapes(config, None)
