"""What an ImageNet checkpoint looks like: its keys, and the encoder they belong to."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fusionproxy_jax.config import StudentConfig

Rules = dict[str, tuple[str, str]]
"""Part of a conversion's table: source key -> (target path, name of the transform)."""


class Stage(NamedTuple):
    """Where a file keeps one stage of the student's encoder.

    Attributes:
        prefix: What the stage's keys begin with, and no others do.
        blocks: What the keys of its blocks begin with, up to their number.
        width: Key of a tensor whose first axis has the stage's channels.
    """

    prefix: str
    blocks: str
    width: str

    def num_blocks(self, names: Collection[str]) -> int:
        """Returns how many blocks the file has of it."""
        rest = (
            name.removeprefix(self.blocks)
            for name in names
            if name.startswith(self.blocks)
        )
        return len({name.partition(".")[0] for name in rest})


@dataclass(frozen=True, kw_only=True)
class PublishedEncoder:
    """One encoder in the keys of one library.

    Attributes:
        name: What to call it in a sentence.
        encoder: The student's encoder of this architecture.
        stem: Key of the first convolution.
        stages: Those that a student can have, finest first.
        mark: Key that, with those of stem and first stage, no other kind of file has.
        settings: Fields of a student's configuration that its layers ask for.
        rules: (blocks per stage, the file's keys) to the rules of what is loaded. A
            batch normalisation is loaded in its parts, see `batch_norms`.
        unused: Patterns of keys that no student has a place for.
        differences: Configuration to what else differs from the published network.
    """

    name: str
    encoder: str
    stem: str
    stages: tuple[Stage, ...]
    mark: str
    settings: Mapping[str, Any]
    rules: Callable[[Sequence[int], Collection[str]], Rules]
    unused: tuple[str, ...]
    differences: Callable[[StudentConfig], list[str]] = lambda config: []

    def left_out(self, depths: Sequence[int], names: Collection[str]) -> list[str]:
        """Returns patterns of the keys that a student with these depths leaves out."""
        patterns = [*self.unused, "*.num_batches_tracked"]
        for stage, depth in zip(self.stages, depths, strict=False):
            later = range(depth, stage.num_blocks(names))
            patterns += [f"{stage.blocks}{index}.*" for index in later]
        patterns += [f"{stage.prefix}*" for stage in self.stages[len(depths) :]]
        return patterns


def weight_and_bias(
    source: str, target: str, transform: str, weight: str = "kernel"
) -> Rules:
    """Returns the rules of a layer with both; `weight` is our name of the first."""
    return {
        f"{source}.weight": (f"{target}/{weight}", transform),
        f"{source}.bias": (f"{target}/bias", "as_is"),
    }
