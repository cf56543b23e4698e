"""The flags that say which of several processes of a run this is."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Processes:
    """Several processes train one run together, on one --workdir that all can reach."""

    # Whether to look for others: auto does under SLURM (srun), Open MPI and on TPU
    # pods, where a step has more than one process.
    distributed: Literal["auto", "on", "off"] = "auto"
    # HOST:PORT where process 0 listens; where no launcher says it.
    coordinator: str | None = None
    # This process, from 0, with --coordinator.
    process_index: int | None = None
    # How many processes there are, with --coordinator.
    process_count: int | None = None

    def join(self) -> None:
        """Joins this process to the others, before JAX is asked for a device."""
        from fusionproxy_jax.training.processes import join_processes

        join_processes(
            self.distributed,
            coordinator=self.coordinator,
            process_index=self.process_index,
            process_count=self.process_count,
        )

    @property
    def speaks(self) -> bool:
        """Whether this process prints: the first one does."""
        import jax

        return jax.process_index() == 0
