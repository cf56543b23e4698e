import numpy as np
import pytest
from tiny_graphs import CAMERA, FLOAT, with_size, write_fusion

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.deployed_form import DeployedForm
from fusionproxy_jax.evaluation.graph_images import camera_noise


def test_both_interfaces_give_levels_of_the_same_image(tmp_path):
    pair = camera_noise(8, 12)
    unrounded = DeployedForm("float", write_fusion(tmp_path / "f.onnx", FLOAT))(*pair)
    assert unrounded.shape == (8, 12, 3) and unrounded.dtype == np.float32
    assert not np.array_equal(unrounded, np.rint(unrounded))
    path = write_fusion(tmp_path / "c.onnx", CAMERA)
    levels = DeployedForm("camera", path.read_bytes())(*pair)
    assert levels.dtype == np.float32
    # These graphs' last operation, a conversion to uint8, cuts off.
    np.testing.assert_array_equal(levels, np.floor(unrounded + 1e-4) % 256)


def test_another_size_than_a_fixed_one_is_one_sentence(tmp_path):
    form = DeployedForm(
        "fixed", write_fusion(tmp_path / "m.onnx", with_size(FLOAT, 8, 12))
    )
    assert form.fixed_size == (8, 12)
    with pytest.raises(FusionProxyError, match="fixed takes 8x12 only, not 8x13"):
        form(*camera_noise(8, 13))


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(FusionProxyError, match="there is no ONNX file"):
        DeployedForm("none", tmp_path / "none.onnx")


def test_an_output_that_is_no_colour_image_is_one_sentence(tmp_path):
    """A grey one would spread over the colours of what it is compared with."""
    form = DeployedForm("grey", write_fusion(tmp_path / "g.onnx", FLOAT, channels=1))
    with pytest.raises(
        FusionProxyError, match=r"grey gives fused of shape \[1, 1, 8, 12\]"
    ):
        form(*camera_noise(8, 12))
