"""Any frozen ONNX network as a backbone of the panel, up to one of its tensors."""

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.panel.backbone import Backbone
from fusionproxy_jax.panel.onnx_file import is_feature_map
from fusionproxy_jax.panel.onnx_graph import OnnxGraph
from fusionproxy_jax.panel.onnx_prefix import read_graph
from fusionproxy_jax.panel.onnx_spec import OnnxSpec, parse_spec

# Ends of the stages at stride 8 and 16. Two maps of one stage vary in the same places
# (correlation of log variances 0.7 over simple fusions of real pairs, here 0.55), and
# routing would have little to choose from.
COMPACT: tuple[tuple[str, str], ...] = (
    ("nanodet_m_416.onnx", "492?order=bgr"),
    ("picodet_s_320.onnx", "reshape2_15.tmp_0"),
)
"""Panel `compact`: (file, rest of the entry)."""

_DTYPES = ("float32", "bfloat16")
# Where a file leaves the size open, what the tap is checked at.
_USUAL_SIZE = 256


def find_compact() -> list[str] | None:
    """Returns the entries of the panel `compact`, None unless both files are there.

    They are looked for in the folder that FUSIONPROXY_MODELS names.
    """
    folder = os.environ.get("FUSIONPROXY_MODELS")
    if not folder or not all((Path(folder) / file).is_file() for file, _ in COMPACT):
        return None
    return [f"onnx:{Path(folder) / file}#{rest}" for file, rest in COMPACT]


def load_onnx_backbone(spec: str, *, dtype: str = "float32") -> Backbone:
    """Reads a network up to a tensor [1, c, h, w].

    Images are resized to the size the file prescribes (bilinear, half-pixel centres,
    no antialiasing), or keep theirs where it takes any.

    Args:
        spec: `onnx:FILE#TENSOR?settings`, see `onnx_spec`.
        dtype: Of parameters and activations, "float32" or "bfloat16"; features are
            float32, and the fingerprint is the same.

    Raises:
        FusionProxyError: The spec, the file or the tensor cannot be used.
    """
    if dtype not in _DTYPES:
        raise FusionProxyError(f"dtype {dtype!r} is none of {', '.join(_DTYPES)}")
    parsed = parse_spec(spec)
    graph = read_graph(parsed.path, [parsed.tensor])
    params = {name: jnp.asarray(a, dtype) for name, a in graph.params.items()}
    _check_tap(parsed, graph, params)
    settings = (parsed.tensor, parsed.mean, parsed.std, parsed.order, parsed.scale)
    digest = hashlib.sha256(f"{graph.digest} {settings}".encode())
    return Backbone(
        name=parsed.name,
        fingerprint=digest.hexdigest()[:16],
        params=params,
        apply=_features(parsed, graph, jnp.dtype(dtype)),
    )


def _check_tap(
    spec: OnnxSpec, graph: OnnxGraph, params: Mapping[str, jax.Array]
) -> None:
    height, width = (size or _USUAL_SIZE for size in graph.image_size)
    dtype = next(iter(params.values())).dtype if params else jnp.float32
    image = jax.ShapeDtypeStruct((1, 3, height, width), dtype)
    (tap,) = jax.eval_shape(graph, params, image)
    if not is_feature_map(tap.shape):
        raise FusionProxyError(
            f"{spec.tensor} of {spec.path} has the shape {list(tap.shape)}; features "
            "are taken from a tensor [1, channels, height, width] with more than one "
            "place"
        )


def _features(
    spec: OnnxSpec, graph: OnnxGraph, dtype: jnp.dtype
) -> Callable[[Mapping[str, jax.Array], jax.Array], jax.Array]:
    """Returns the `apply` of the backbone."""

    def prepare(images: jax.Array) -> jax.Array:
        batch, *size, channels = images.shape
        height, width = (
            fixed or own for fixed, own in zip(graph.image_size, size, strict=True)
        )
        images = images.astype(jnp.float32)
        if (height, width) != tuple(size):
            shape = (batch, height, width, channels)
            images = jax.image.resize(images, shape, "bilinear", antialias=False)
        mean, std = (
            jnp.asarray(values, jnp.float32).reshape(1, 1, 1, 3)
            for values in (spec.mean, spec.std)
        )
        images = (images - mean) / std * spec.scale
        if spec.order == "bgr":
            images = images[..., ::-1]
        return images.transpose(0, 3, 1, 2).astype(dtype)

    def apply(params: Mapping[str, jax.Array], images: jax.Array) -> jax.Array:
        # One image at a time: shapes written into the file hold its batch of one.
        def tap(image: jax.Array) -> jax.Array:
            (features,) = graph(params, image[None])
            return features[0]

        features = jax.vmap(tap)(prepare(images))
        return features.transpose(0, 2, 3, 1).astype(jnp.float32)

    return apply
