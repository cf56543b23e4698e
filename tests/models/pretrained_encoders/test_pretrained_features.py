import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from models.published_files import KINDS, write

from fusionproxy_jax.models.encoders import build_encoder
from fusionproxy_jax.models.pretrained_encoders.loading import load_pretrained_encoders


def _image(height, width):
    values = np.random.default_rng(0).random((1, height, width, 3))
    return values.astype(np.float32)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("kind", KINDS)
def test_encoders_from_a_file_give_the_published_features(tmp_path, kind, suffix):
    state, features, student, sides = KINDS[kind]()
    colour = suffix == ".safetensors"
    visible, infrared, _ = load_pretrained_encoders(
        write(tmp_path / f"weights{suffix}", state), student
    )
    image = _image(*sides)
    if not colour:
        image = np.repeat(image[..., :1], 3, axis=-1)
    encode = jax.jit(
        build_encoder(student, grouped=True).apply,
        compiler_options={"xla_backend_optimization_level": 0},
    )
    ours = encode(
        {"params": visible if colour else infrared},
        jnp.asarray(image if colour else image[..., :1]),
    )
    with torch.no_grad():
        expected = features(torch.from_numpy(image.transpose(0, 3, 1, 2).copy()))
    for found, reference in zip(ours, expected, strict=True):
        reference = reference.numpy().transpose(0, 2, 3, 1)
        # Values grow over the blocks.
        bound = 1e-4 * np.abs(reference).max()
        np.testing.assert_allclose(found, reference, rtol=1e-4, atol=bound)
