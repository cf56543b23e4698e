"""Which rows of a global batch each process loads, and how devices get equal parts.

Devices run one program, so that all of them get the same number of rows. Where the
batch does not divide, rows of weight 0 fill up what lacks (`update`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.training.update import POSITION, WEIGHT

HostBatch = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class BatchRows:
    """What this process has of every global batch.

    Attributes:
        own: Positions in the global batch of the images that this process loads.
        num_rows: Rows that its devices get together, `own` and what fills them up.
    """

    own: range
    num_rows: int

    def fill_up(self, batch: HostBatch) -> dict[str, np.ndarray]:
        """Returns the rows of this process's devices, with positions and weights.

        Args:
            batch: Arrays [len(own), ...]. What fills up repeats the first image, so
                that nothing in it can be less finite than an image is.
        """
        lacking = self.num_rows - len(self.own)
        rows = {
            name: np.concatenate([array, np.repeat(array[:1], lacking, axis=0)])
            if lacking
            else array
            for name, array in batch.items()
        }
        positions = np.array([*self.own, *[self.own.start] * lacking], np.int32)
        weights = np.arange(self.num_rows) < len(self.own)
        return {**rows, POSITION: positions, WEIGHT: weights.astype(np.float32)}


def rows_of_process(
    batch_size: int,
    devices: Sequence[jax.Device],
    *,
    num_parts: int = 1,
    process_index: int | None = None,
) -> BatchRows:
    """Returns this process's share of a batch spread evenly over all devices.

    Args:
        batch_size: Images of the global batch.
        devices: Of every process, in any order.
        num_parts: Each device takes its rows in so many equal parts.
        process_index: Whose share; this process's by default.

    Raises:
        FusionProxyError: A process would get no image.
    """
    if process_index is None:
        process_index = jax.process_index()
    owners = [device.process_index for device in devices]
    if process_index not in owners:
        raise FusionProxyError(
            f"process {process_index} has none of the {len(devices)} devices of the "
            "run; leave it out"
        )
    before = sum(owner < process_index for owner in owners)
    local = owners.count(process_index)
    start = batch_size * before // len(devices)
    stop = batch_size * (before + local) // len(devices)
    if start == stop:
        raise FusionProxyError(
            f"data.batch_size is {batch_size}; that leaves process {process_index} of "
            f"{len(set(owners))} without an image: raise it or start fewer processes"
        )
    rows_per_device = -(-batch_size // (len(devices) * num_parts)) * num_parts
    return BatchRows(range(start, stop), rows_per_device * local)
