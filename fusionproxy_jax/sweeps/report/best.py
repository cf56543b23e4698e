"""The criterion that chooses the best member of a sweep."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.metrics import METRICS
from fusionproxy_jax.evaluation.report import mean_ranks
from fusionproxy_jax.sweeps.report.gather import MemberRecord

RANK, LOSS = "rank", "loss"


@dataclass(frozen=True)
class Criterion:
    """What is best: a fusion metric, the mean rank over all of them, or the loss."""

    name: str

    @classmethod
    def of(cls, text: str) -> "Criterion":
        """Returns the criterion of a name, in upper or lower case.

        Raises:
            FusionProxyError: There is none of this name.
        """
        names = {name.lower(): name for name in (*METRICS, RANK, LOSS)}
        if text.lower() not in names:
            raise FusionProxyError(
                f"--best {text} is no criterion; give one of {', '.join(names)}"
            )
        return cls(names[text.lower()])

    @property
    def described(self) -> str:
        """The criterion in words."""
        if self.name == RANK:
            return "lowest mean rank over the nine metrics on held-out pairs"
        if self.name == LOSS:
            return "lowest last training loss"
        return f"highest {self.name} on held-out pairs"

    def values(self, members: Sequence[MemberRecord]) -> dict[str, float]:
        """Returns member -> value of those that are finished and have one."""
        finished = [member for member in members if member.is_finished]
        if self.name == LOSS:
            return {one.name: one.last[LOSS] for one in finished if LOSS in one.last}
        if self.name == RANK:
            scored = {
                one.name: one.scores
                for one in finished
                if one.scores.keys() >= set(METRICS)
            }
            return mean_ranks(scored) if scored else {}
        return {
            one.name: one.scores[self.name]
            for one in finished
            if self.name in one.scores
        }

    def best(self, values: Iterable[tuple[str, float]]) -> str | None:
        """Returns the name with the best value, the first one of equals."""
        sign = 1.0 if self.name in (RANK, LOSS) else -1.0
        ordered = sorted(values, key=lambda item: sign * item[1])
        return ordered[0][0] if ordered else None
