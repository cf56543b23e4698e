"""Weights of the teachers' networks: those in the package, ours, and published ones.

A file of ours says which network it holds. A published checkpoint is taken for the
full network and converted one to one, once; the result is kept as safetensors.
"""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from fusionproxy_jax.checkpoints.conversion import convert_cached
from fusionproxy_jax.checkpoints.weights import (
    check_parameters,
    is_weights_file,
    load_weights,
    save_weights,
)
from fusionproxy_jax.config import (
    MaskDifuserNetConfig,
    UNetConfig,
    from_json,
)
from fusionproxy_jax.diffusion.learned_prior import LearnedPrior
from fusionproxy_jax.diffusion.unet import UNet
from fusionproxy_jax.diffusion.unet_keys import unet_key_table
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.runtime.fuser import WEIGHTS
from fusionproxy_jax.teachers.mask_difuser.keys import (
    ALIASES,
    IGNORED,
    mask_difuser_key_table,
)
from fusionproxy_jax.teachers.mask_difuser.network import MaskDifuserNet
from fusionproxy_jax.teachers.mask_difuser.sampling import Restorer

Network = LearnedPrior | Restorer

COMPACT = "compact"


def load_prior(
    weights: str, *, dtype: str = "float32", published: UNetConfig | None = None
) -> tuple[LearnedPrior, str]:
    """Returns DDFM's prior and a fingerprint of its weights.

    Args:
      weights: `compact`, or a file: guided diffusion's 256x256 unconditional model, or
        one of ours.
      dtype: what the network computes in.
      published: what a checkpoint that is not ours holds; None is the full network.

    Raises:
      FusionProxyError: there is no such file, or it does not fit.
    """
    path = _path(weights, "ddfm")
    if is_weights_file(path):
        config, params = _read(path, "ddfm", UNetConfig)
    else:
        config = published or UNetConfig()
        params = convert_cached(path, unet_key_table(config), prior_shapes(config))
    return LearnedPrior(_float32(params), config, dtype), _fingerprint(params)


def load_restorer(
    weights: str,
    *,
    dtype: str = "float32",
    published: MaskDifuserNetConfig | None = None,
) -> tuple[Restorer, str]:
    """Returns Mask-DiFuser's network and a fingerprint; see `load_prior`."""
    path = _path(weights, "mask_difuser")
    if is_weights_file(path):
        config, params = _read(path, "mask_difuser", MaskDifuserNetConfig)
    else:
        config = published or MaskDifuserNetConfig()
        params = convert_cached(
            path,
            mask_difuser_key_table(config),
            restorer_shapes(config),
            ignored=IGNORED,
            aliases=ALIASES,
        )
    return Restorer(_float32(params), config, dtype), _fingerprint(params)


def save_network(
    path: Path, network: Network, *, training: dict[str, Any] | None = None
) -> None:
    """Writes a network of ours as float16 safetensors that say what they hold."""
    teacher = "ddfm" if isinstance(network, LearnedPrior) else "mask_difuser"
    save_weights(
        path,
        jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float16), network.params),
        {
            "teacher": teacher,
            "network": dataclasses.asdict(network.config),
            "training": training or {},
        },
    )


def prior_shapes(config: UNetConfig) -> Any:
    """Returns the shapes of a prior's parameters, nothing allocated."""
    side = config.stride
    return _shapes(UNet(config), (side, side, config.in_channels), num_images=1)


def restorer_shapes(config: MaskDifuserNetConfig) -> Any:
    """Returns the shapes of a restorer's parameters, nothing allocated."""
    side = config.stride
    return _shapes(MaskDifuserNet(config), (side, side, 3), num_images=3)


def _shapes(network: Any, shape: tuple[int, ...], *, num_images: int) -> Any:
    images = [jax.ShapeDtypeStruct((1, *shape), jnp.float32)] * num_images
    index = jax.ShapeDtypeStruct((1,), jnp.int32)
    return jax.eval_shape(network.init, jax.random.key(0), *images, index)["params"]


def _path(weights: str, teacher: str) -> Path:
    if weights != COMPACT:
        return Path(weights).expanduser()
    return WEIGHTS / "teachers" / f"{teacher}_compact.safetensors"


def _read(path: Path, teacher: str, kind: type) -> tuple[Any, Any]:
    """Returns network configuration and parameters of a file of ours."""
    params, metadata = load_weights(path)
    try:
        found = metadata["teacher"]
        config = from_json(kind, metadata["network"]) if found == teacher else None
    except (KeyError, TypeError) as error:
        raise FusionProxyError(
            f"{path} does not hold a teacher's network ({error}); use a file written "
            "by `fusionproxy export-teacher`"
        ) from error
    if config is None:
        raise FusionProxyError(
            f"{path} holds the network of teacher {found!r}, not of {teacher!r}; give "
            f"it as --teacher.{found.replace('_', '-')}.weights"
        )
    shapes = prior_shapes if teacher == "ddfm" else restorer_shapes
    check_parameters(params, shapes(config), source=str(path))
    return config, params


def _float32(params: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)


def _fingerprint(params: Any) -> str:
    """Returns 16 hex digits that change with any name or value."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(jnp.asarray(leaf).tobytes())
    return digest.hexdigest()[:16]
