"""Released students inside PyTorch: the same image and the same gradients as in JAX."""

import runpy
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from fusionproxy_jax.commands.student_file import read_student
from fusionproxy_jax.input_pipeline.synthetic import synthetic_pair
from fusionproxy_jax.models.any_size import fuse_any_size
from fusionproxy_jax.models.variants import build_student
from fusionproxy_jax.runtime.fuser import WEIGHTS

SCRIPT = Path(__file__).parents[1] / "export" / "use_from_pytorch.py"


@pytest.fixture
def load_in_pytorch(monkeypatch):
    # The script may put a stand-in there; other tests should not meet it.
    for name in ("torchvision", "torchvision.ops"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return runpy.run_path(str(SCRIPT))["load"]


@pytest.mark.filterwarnings(
    # onnx2torch's Slice indexes with a list of slices.
    "ignore:Using a non-tuple sequence:UserWarning"
)
@pytest.mark.parametrize("name", ["nano", "small", "base"])
def test_gradients_with_respect_to_both_images_are_those_of_flax(load_in_pytorch, name):
    pair = synthetic_pair(3, height=64, width=80)
    visible = pair["visible"][None].astype(np.float32) / 255
    infrared = pair["infrared"][None, ..., None].astype(np.float32)
    cotangent = np.random.default_rng(0).standard_normal(visible.shape)
    cotangent = cotangent.astype(np.float32)

    config, params, _ = read_student(WEIGHTS / f"{name}.safetensors")
    module, params = build_student(config), jax.tree.map(jnp.asarray, params)

    def loss(*images):
        fused = fuse_any_size(module, params, *images)
        return jnp.sum(fused * cotangent), fused

    (_, expected), expected_gradients = jax.jit(
        jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    )(jnp.asarray(visible), jnp.asarray(infrared))

    images = [
        torch.from_numpy(image.transpose(0, 3, 1, 2)).requires_grad_()
        for image in (visible, infrared)
    ]
    fused = load_in_pytorch(str(WEIGHTS / f"{name}.onnx"))(*images)
    (fused * torch.from_numpy(cotangent.transpose(0, 3, 1, 2))).sum().backward()
    np.testing.assert_allclose(
        fused.detach().numpy().transpose(0, 2, 3, 1), expected, atol=1e-4
    )
    for image, gradient in zip(images, expected_gradients, strict=True):
        ours = image.grad.numpy().transpose(0, 2, 3, 1)
        scale = np.abs(gradient).mean()
        assert scale > 0.01
        # Where a value lies on an edge of clip or rectifier either side may count.
        assert np.mean(np.abs(ours - gradient) > 0.01 * scale) < 0.01
