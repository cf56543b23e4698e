"""Which shards of a teacher cache one of several processes works on."""

from collections.abc import Callable
from dataclasses import dataclass

import jax

from fusionproxy_jax.errors import FusionProxyError

# Called with (tiles done, tiles in all), also for those a resumed build finds done.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Part:
    """Process `index` of `count`."""

    index: int
    count: int

    @classmethod
    def of(cls, index: int | None, count: int | None) -> "Part":
        """Returns the part as given, or this process's number by `jax.distributed`.

        Raises:
          FusionProxyError: half of it is given, or there is no such process.
        """
        if index is None and count is None:
            return cls(jax.process_index(), jax.process_count())
        if index is None or count is None:
            raise FusionProxyError(
                f"process_index is {index} and process_count {count}; give both or "
                "neither"
            )
        if not 0 <= index < count:
            raise FusionProxyError(
                f"process_index is {index}; of {count} processes it must be 0 to "
                f"{count - 1}"
                if count > 0
                else f"process_count is {count}; it must be at least 1"
            )
        return cls(index, count)

    def owns(self, shard: int) -> bool:
        """Returns whether the shard is one of this process's."""
        return shard % self.count == self.index
