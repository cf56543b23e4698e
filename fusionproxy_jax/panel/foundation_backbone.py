"""A foundation model and its weights as a backbone of the panel."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from fusionproxy_jax.checkpoints.weights import flatten
from fusionproxy_jax.panel.backbone import Backbone
from fusionproxy_jax.panel.foundation_model import FoundationModel
from fusionproxy_jax.panel.snapshots import load_parameters, parameter_shapes


def load_foundation_backbone(
    model: FoundationModel, path: Path, *, dtype: str = "float32"
) -> Backbone:
    """Returns the backbone whose weights are at `path`, parameters on the device.

    Args:
        model: The port.
        path: See `snapshots.open_weights`.
        dtype: What the network computes in, "float32" or "bfloat16"; parameters and
            features are float32.

    Raises:
        FusionProxyError: The weights do not fit one to one, or cannot be read.
    """
    params = load_parameters(model, path)
    return Backbone(
        name=model.name,
        fingerprint=_fingerprint(model, params),
        params=jax.tree.map(jnp.asarray, params),
        apply=_features(model, dtype),
    )


def backbone_without_weights(
    model: FoundationModel, *, dtype: str = "float32"
) -> Backbone:
    """Returns a backbone whose parameters are only shapes, to describe it by.

    Its fingerprint is empty.
    """
    shapes = parameter_shapes(model, whole=False)
    return Backbone(model.name, "", shapes, _features(model, dtype))


def _features(model: FoundationModel, dtype: str) -> Any:
    """Returns the `apply` of a backbone."""
    module = model.build(model.config, False, jnp.dtype(dtype))

    def apply(params: Any, images: jax.Array) -> jax.Array:
        num_images, height, width, _ = images.shape
        size = model.input_size(model.config, height, width)
        # As torch's interpolate with align_corners=False: half-pixel centres.
        seen = jax.image.resize(
            images.astype(jnp.float32),
            (num_images, *size, 3),
            "bilinear",
            antialias=False,
        )
        mean, std = (
            jnp.asarray(values, jnp.float32).reshape(1, 1, 1, 3)
            for values in (model.mean, model.std)
        )
        features, _ = module.apply({"params": params}, (seen - mean) / std)
        return features.astype(jnp.float32)

    return apply


def _fingerprint(model: FoundationModel, params: Mapping[str, Any]) -> str:
    """Returns 16 hex digits of everything that features follow from."""
    size = model.input_size(model.config, 256, 256)
    rules = [asdict(model.config), size, model.mean, model.std]
    digest = hashlib.sha256(json.dumps(rules, sort_keys=True).encode())
    for name, values in sorted(flatten(params).items()):
        digest.update(f"{name} {values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()[:16]
