"""Weights of foundation models on this machine: found, checked and read, no torch.

A snapshot is one file or an index of several, in the Hugging Face cache or at a path
the user names. Nothing is downloaded here.
"""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.checkpoints.checkpoint_file import CheckpointFile, open_checkpoint
from fusionproxy_jax.checkpoints.conversion_plan import (
    Step,
    converted_tensors,
    plan_conversion,
)
from fusionproxy_jax.checkpoints.weights import Parameters, flatten, unflatten
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.panel.foundation_model import FoundationModel

_INDEX = "model.safetensors.index.json"
# As the hub names them, the preferred one first; old caches hold only the last.
_NAMES = ("model.safetensors", _INDEX, "pytorch_model.bin")
# Shapes of parameters do not follow from it; any image would do.
_IMAGE = (256, 256)


def find_weights(repository: str) -> Path | None:
    """Returns a repository's weights in the Hugging Face cache: a file or an index.

    None if they are not there, or only some of an index's files. The cache is where
    HF_HUB_CACHE or HF_HOME say.
    """
    from huggingface_hub import try_to_load_from_cache

    for name in _NAMES:
        path = try_to_load_from_cache(repository, name)
        # Besides None, it returns a mark for files known not to exist.
        if isinstance(path, str) and _is_complete(Path(path)):
            return Path(path)
    return None


def weights_at(path: str | Path) -> Path:
    """Returns the weights a user names: a file, or a folder with a file of the hub's.

    Raises:
        FusionProxyError: There are none.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return path
    for name in _NAMES:
        if (path / name).is_file():
            return path / name
    if path.is_dir():
        raise FusionProxyError(
            f"the folder {path} holds none of {', '.join(_NAMES)}; name the weights "
            "file itself"
        )
    raise FusionProxyError(
        f"there are no weights at {path}; give a safetensors or torch file, or the "
        "folder of one"
    )


def open_weights(path: Path) -> CheckpointFile:
    """Opens a safetensors or torch file, or all files of an index as one.

    Raises:
        FusionProxyError: A file is missing, damaged, of another kind, or could run
            code.
    """
    if not _is_index(path):
        return open_checkpoint(path)
    with ExitStack() as stack:
        opened = ShardedCheckpoint(
            path,
            [stack.enter_context(open_checkpoint(shard)) for shard in _shards(path)],
        )
        # From here on they are closed with the whole.
        stack.pop_all()
    return opened


class ShardedCheckpoint(CheckpointFile):
    """Tensors of several open files as those of one."""

    def __init__(self, path: Path, files: Sequence[CheckpointFile]) -> None:
        self.path = path
        self._files = files
        self._owners: dict[str, CheckpointFile] = {}
        for file in files:
            for name in file.keys():
                if name in self._owners:
                    raise FusionProxyError(
                        f"{path} is damaged: {self._owners[name].path.name} and "
                        f"{file.path.name} both hold {name}; fetch it again"
                    )
                self._owners[name] = file

    def keys(self) -> list[str]:
        """Names of the tensors, file by file."""
        return list(self._owners)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self._owners[name].shape(name)

    def dtype(self, name: str) -> np.dtype:
        """Type that `read` returns."""
        return self._owners[name].dtype(name)

    def read(self, name: str) -> np.ndarray:
        """Returns the values of one tensor; see `CheckpointFile.read`."""
        return self._owners[name].read(name)

    def close(self) -> None:
        """Closes every file."""
        for file in self._files:
            file.close()


def parameter_shapes(model: FoundationModel, *, whole: bool) -> Any:
    """Returns the shapes of a model's parameters, nothing allocated.

    Args:
        model: The port.
        whole: With everything behind the tap.
    """
    module = model.build(model.config, whole, jnp.dtype(jnp.float32))
    size = model.input_size(model.config, *_IMAGE)
    images = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    return jax.eval_shape(module.init, jax.random.key(0), images)["params"]


def check_weights(model: FoundationModel, path: Path) -> None:
    """Refuses weights that are not the whole network's one to one; reads no values.

    Raises:
        FusionProxyError: What is missing, unknown or of another shape, or why the file
            cannot be read.
    """
    with open_weights(path) as source:
        _plan(model, source)


def load_parameters(model: FoundationModel, path: Path) -> Parameters:
    """Returns the parameters up to the tap, float32, as nested NumPy arrays.

    The file must fit the whole network; what lies behind the tap is not read.

    Raises:
        FusionProxyError: See `check_weights`; nothing was loaded.
    """
    needed = flatten(parameter_shapes(model, whole=False)).keys()
    with open_weights(path) as source:
        steps = [step for step in _plan(model, source) if step.target in needed]
        tensors = converted_tensors(source, steps, "float32")
        return unflatten(
            {step.target: t for step, t in zip(steps, tensors, strict=True)}
        )


def _plan(model: FoundationModel, source: CheckpointFile) -> tuple[Step, ...]:
    return plan_conversion(
        source,
        model.key_table(model.config),
        parameter_shapes(model, whole=True),
        ignored=model.ignored,
        prefixes=model.prefixes,
    )


def _is_index(path: Path) -> bool:
    return path.name.endswith(".index.json")


def _is_complete(path: Path) -> bool:
    if not _is_index(path):
        return True
    try:
        return all(shard.is_file() for shard in _shards(path))
    except FusionProxyError:
        # Whoever opens it is told what is wrong.
        return True


def _shards(index: Path) -> list[Path]:
    """Returns the files of an index, which lie beside it."""
    try:
        names = set(json.loads(index.read_bytes())["weight_map"].values())
        outside = [name for name in names if Path(name).name != name]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FusionProxyError(
            f"{index} is no index of safetensors files, or damaged; fetch it again"
        ) from error
    if outside:
        raise FusionProxyError(
            f"{index} names files outside its own folder; fetch it again"
        )
    return [index.parent / name for name in sorted(names)]
