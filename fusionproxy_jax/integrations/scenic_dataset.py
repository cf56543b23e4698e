"""A teacher cache as a data set of google-research/scenic, see `scenic` for batches."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.loader import make_loader
from fusionproxy_jax.input_pipeline.split import split_pairs
from fusionproxy_jax.integrations.scenic_import import scenic_module
from fusionproxy_jax.teachers.cache import TeacherCache, open_cache

# What `dataset_configs` may hold, and what stands for what it does not.
_SETTINGS = MappingProxyType(
    {
        "cache": None,
        "eval_cache": None,
        "validation_fraction": 0.1,
        "crop_px": None,
        "flip": True,
        "panel": (),
        "num_workers": 0,
    }
)


def register_dataset(name: str = "fusionproxy") -> None:
    """Makes `get_dataset` known to scenic under `name`; a second time changes nothing.

    Raises:
        FusionProxyError: google-research/scenic cannot be imported.
    """
    datasets = scenic_module("dataset_lib.datasets")
    if name not in datasets.DatasetRegistry.list():
        datasets.add_dataset(name)(get_dataset)


def get_dataset(
    *,
    batch_size: int,
    eval_batch_size: int,
    num_shards: int,
    dtype_str: str = "float32",
    shuffle_seed: int | None = 0,
    rng: jax.Array | None = None,
    dataset_configs: Mapping[str, Any] | None = None,
    dataset_service_address: str | None = None,
):
    """Returns scenic's `Dataset` of a teacher cache; both of its iterators are endless.

    A pass of the evaluation shows every held-out tile once and always the same crop of
    it, in `num_eval_examples` over the batch of all processes batches, rounded up, on
    every process; what remains of them is padding.

    Args:
        batch_size: Of this process, as the next.
        eval_batch_size: Of this process.
        num_shards: Devices of this process; must divide both.
        dtype_str: What `inputs` are cast to.
        shuffle_seed: Of order, crops and flips; None takes it from `rng`.
        rng: Used where there is no seed.
        dataset_configs: `cache`, a folder made by `fusionproxy teach`; `eval_cache`,
            one of held-out pairs, or else `validation_fraction` (0.1) of the images of
            `cache`, where each frame of a clip is an image of its own; `crop_px` (whole
            tiles), `flip` (True), `num_workers` (0); `panel`, names of the backbones
            whose features are wanted, which takes whole tiles without flips.
        dataset_service_address: Not supported.

    Raises:
        FusionProxyError: Bad settings, no finished cache, or nothing to evaluate on.
    """
    dataset_utils = scenic_module("dataset_lib.dataset_utils")
    settings = _with_defaults(dataset_configs or {})
    if dataset_service_address:
        raise FusionProxyError(
            f"dataset_service_address is {dataset_service_address!r}; every process "
            "reads a teacher cache by itself, leave it out"
        )
    for name, size in (("", batch_size), ("eval_", eval_batch_size)):
        if size % num_shards:
            raise FusionProxyError(
                f"{name}batch_size is {size} on this process; it must be a multiple of "
                f"its {num_shards} devices"
            )
    if shuffle_seed is None and rng is not None:
        shuffle_seed = int(jax.random.randint(rng, (), 0, 2**31 - 1))
    train, held_out = _split(settings)
    crop_px = None if settings["panel"] else settings["crop_px"]
    crop_px = crop_px or train[0]["visible"].shape[0]
    dtype = jnp.dtype(dtype_str)
    return dataset_utils.Dataset(
        train_iter=_train_batches(
            train,
            batch_size,
            num_shards=num_shards,
            dtype=dtype,
            crop_px=crop_px,
            flip=settings["flip"],
            seed=shuffle_seed or 0,
            num_workers=settings["num_workers"],
        ),
        valid_iter=_eval_batches(
            held_out,
            eval_batch_size,
            num_shards=num_shards,
            dtype=dtype,
            crop_px=crop_px,
        ),
        test_iter=None,
        meta_data={
            "input_shape": (-1, crop_px, crop_px, 4),
            "input_dtype": dtype,
            "num_train_examples": len(train),
            "num_eval_examples": len(held_out),
            "target_is_onehot": False,
        },
    )


class _Tiles(Sequence):
    """Some tiles of a cache."""

    def __init__(self, cache: TeacherCache, indices: Sequence[int]):
        self._cache, self._indices = cache, list(indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> dict:
        return self._cache[self._indices[index]]

    def share(self) -> "_Tiles":
        """Returns those that this process reads."""
        own = self._indices[jax.process_index() :: jax.process_count()]
        return _Tiles(self._cache, own)


def _with_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(given) - set(_SETTINGS))
    settings = {**_SETTINGS, **dict(given)}
    if unknown or not settings["cache"]:
        what = f"has {', '.join(unknown)}" if unknown else "names no cache"
        raise FusionProxyError(
            f"dataset_configs {what}; it takes {', '.join(_SETTINGS)}, and needs "
            "cache, a folder made by `fusionproxy teach`"
        )
    return settings


def _split(settings: Mapping[str, Any]) -> tuple[_Tiles, _Tiles]:
    """Returns what trains and what evaluates."""
    panel = tuple(settings["panel"])
    cache = open_cache(settings["cache"]).with_panel(panel)
    everything = range(len(cache))
    if settings["eval_cache"] is not None:
        other = open_cache(settings["eval_cache"]).with_panel(panel)
        return _Tiles(cache, everything), _Tiles(other, range(len(other)))
    images = [(image.id, image.id) for image in cache.manifest.images]
    fraction = settings["validation_fraction"]
    held_out = set(split_pairs(images, fraction)[1])
    if not held_out:
        raise FusionProxyError(
            f"dataset_configs.validation_fraction is {fraction}, which leaves none of "
            f"the {len(images)} images in {settings['cache']} to evaluate on; raise "
            "it, or name a second cache as dataset_configs.eval_cache"
        )
    evaluates = [number in held_out for number, _ in cache.manifest.tiles]
    return (
        _Tiles(cache, [index for index in everything if not evaluates[index]]),
        _Tiles(cache, [index for index in everything if evaluates[index]]),
    )


def _train_batches(
    tiles: _Tiles,
    batch_size: int,
    *,
    num_shards: int,
    dtype: np.dtype,
    seed: int,
    **options: Any,
) -> Iterator[dict[str, np.ndarray]]:
    # Of processes that see other tiles, each draws other crops too.
    seed += jax.process_index()
    for batch in make_loader(
        tiles.share(), batch_size=batch_size, seed=seed, **options
    ):
        yield _sharded([batch], batch_size, batch_size, num_shards, dtype)


def _eval_batches(
    tiles: _Tiles, batch_size: int, *, num_shards: int, dtype: np.dtype, crop_px: int
) -> Iterator[dict[str, np.ndarray]]:
    mine = tiles.share()
    num_batches = -(-len(tiles) // (batch_size * jax.process_count()))
    while True:
        # Begun anew, it gives the same crops. One tile at a time, so that no batch has
        # tiles of two passes; where this process has none, one gives the shapes.
        one_by_one = make_loader(
            mine or tiles, batch_size=1, crop_px=crop_px, flip=False, seed=0
        )
        for number in range(num_batches):
            left = len(mine) - number * batch_size
            num_real = min(max(left, 0), batch_size)
            rows = list(islice(one_by_one, max(num_real, 1)))
            yield _sharded(rows, num_real, batch_size, num_shards, dtype)


def _sharded(
    batches: Sequence[Mapping[str, np.ndarray]],
    num_real: int,
    batch_size: int,
    num_shards: int,
    dtype: np.dtype,
) -> dict[str, np.ndarray]:
    """Returns the first images of the loader's batches as one of scenic's.

    It holds `batch_size` images; those after the first `num_real` are zero.
    """
    joined = {key: np.concatenate([b[key] for b in batches]) for key in batches[0]}
    pair = joined.pop("visible"), joined.pop("infrared")
    joined["inputs"] = np.concatenate(pair, axis=-1).astype(dtype)
    joined["batch_mask"] = np.ones(len(joined["inputs"]), np.float32)

    def shard(array: np.ndarray) -> np.ndarray:
        padded = np.zeros((batch_size, *array.shape[1:]), array.dtype)
        padded[:num_real] = array[:num_real]
        return padded.reshape(num_shards, -1, *array.shape[1:])

    return {key: shard(array) for key, array in joined.items()}
