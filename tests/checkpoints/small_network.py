"""A network of one layer of each kind: torch's tensors, the rules, Flax's shapes."""

from typing import NamedTuple

import numpy as np
from checkpoints.torch_writers import FORMS, whole

TABLE = {
    "stem.weight": ("params/stem/kernel", "conv"),
    "stem.bias": ("params/stem/bias", "as_is"),
    "blocks.0.dense.weight": ("params/block_0/dense/kernel", "linear"),
    "blocks.0.qkv.weight": ("params/block_0/qkv/kernel", "conv1d"),
    "blocks.0.norm.weight": ("params/block_0/norm/scale", "as_is"),
    "time.weight": ("params/time/embedding", "embedding"),
}


class Leaf(NamedTuple):
    """What a template needs of a leaf."""

    shape: tuple[int, ...]


def template() -> dict:
    return {
        "params": {
            "stem": {"kernel": Leaf((3, 3, 2, 4)), "bias": Leaf((4,))},
            "block_0": {
                "dense": {"kernel": Leaf((4, 5))},
                "qkv": {"kernel": Leaf((4, 12))},
                "norm": {"scale": Leaf((4,))},
            },
            "time": {"embedding": Leaf((10, 4))},
        }
    }


def tensors() -> dict[str, np.ndarray]:
    """Random values under torch's names, in another order than the table's."""
    shapes = {
        "time.weight": (10, 4),
        "blocks.0.norm.weight": (4,),
        "blocks.0.qkv.weight": (12, 4, 1),
        "blocks.0.dense.weight": (5, 4),
        "stem.bias": (4,),
        "stem.weight": (4, 2, 3, 3),
    }
    generator = np.random.default_rng(0)
    return {
        name: generator.standard_normal(shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def expected(given: dict[str, np.ndarray]) -> dict:
    """The parameters, by index."""
    return {
        "params": {
            "stem": {
                "kernel": np.einsum("oihw->hwio", given["stem.weight"]),
                "bias": given["stem.bias"],
            },
            "block_0": {
                "dense": {
                    "kernel": np.einsum("oi->io", given["blocks.0.dense.weight"])
                },
                "qkv": {"kernel": np.einsum("oik->io", given["blocks.0.qkv.weight"])},
                "norm": {"scale": given["blocks.0.norm.weight"]},
            },
            "time": {"embedding": given["time.weight"]},
        }
    }


def write(path, given: dict[str, np.ndarray], *, form: str = "zip"):
    """Writes the tensors, each with a storage of its own, as a torch file."""
    content = {
        name: whole(values, str(number))
        for number, (name, values) in enumerate(given.items())
    }
    path.write_bytes(FORMS[form](content))
    return path
