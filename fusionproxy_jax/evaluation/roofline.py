"""How fast a program can be at best: arithmetic and traffic at the device's own rates.

The roofline model (Williams et al. 2009). Traffic is what the compiled program's
operations read and write; what caches keep makes a program faster than it allows.
"""

from dataclasses import dataclass
from typing import Literal

from fusionproxy_jax.evaluation.accelerator import DevicePeaks


@dataclass(frozen=True, kw_only=True)
class Roofline:
    """Two lower bounds of the time of one call.

    Attributes:
        compute_ms: Of its products, at the peak of matrix products.
        memory_ms: Of its traffic, at the rate of copies; None where it is unknown.
    """

    compute_ms: float
    memory_ms: float | None

    @property
    def bound_ms(self) -> float:
        """The larger bound."""
        return max(self.compute_ms, self.memory_ms or 0.0)

    @property
    def bound_by(self) -> Literal["compute", "memory"] | None:
        """Which bound is the larger one; None where only one is known."""
        if self.memory_ms is None:
            return None
        return "memory" if self.memory_ms > self.compute_ms else "compute"

    @property
    def ceiling(self) -> float | None:
        """Largest share of the peak of matrix products; None where traffic is unknown.

        It is 1 where arithmetic is what bounds.
        """
        return None if self.memory_ms is None else self.compute_ms / self.bound_ms

    def utilisation(self, milliseconds: float) -> float:
        """Returns the share of the peak that a call of this length reaches."""
        return self.compute_ms / milliseconds


def roofline(
    flops: float,
    bytes_accessed: float | None,
    peaks: DevicePeaks,
    *,
    num_devices: int = 1,
) -> Roofline:
    """Returns the bounds of a call spread evenly over devices.

    Args:
        flops: Of its products, all devices together; a multiply-add is two.
        bytes_accessed: Read and written, all devices together.
        peaks: Of one device.
        num_devices: That compute at once, each with memory of its own.
    """
    memory_ms = None
    if bytes_accessed is not None:
        memory_ms = bytes_accessed / peaks.gigabytes_per_second / num_devices / 1e6
    return Roofline(
        compute_ms=flops / peaks.gflop_per_second / num_devices / 1e6,
        memory_ms=memory_ms,
    )
