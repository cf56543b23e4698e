"""Progress bars of passes over the tiles of teacher caches."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm


class TileBars:
    """A progress bar for every pass over the tiles, one after the other."""

    def __init__(self) -> None:
        """Begins without one."""
        self._bar: tqdm | None = None

    def __enter__(self) -> "TileBars":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the bar there is, so that something else can be printed."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def show(self, name: str, done: int, total: int) -> None:
        """Draws the bar of the pass `name`, a new one when it is another pass."""
        from tqdm import tqdm

        if self._bar is None or self._bar.desc != name:
            self.close()
            self._bar = tqdm(unit="tile", desc=name, total=total)
        # What was counted of a shard that another process finished is counted again.
        if done > self._bar.n:
            self._bar.update(done - self._bar.n)
