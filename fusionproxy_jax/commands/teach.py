"""`fusionproxy teach`: draw the teacher ensemble of every training pair, once."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from fusionproxy_jax.config import Config


@dataclass(frozen=True, kw_only=True)
class Teach:
    """Draws the teacher ensemble of the training part of the pairs into a cache.

    Killed or interrupted, the same command goes on where it was. Validation pairs are
    left out; `fusionproxy train` with the same data settings finds them again.
    """

    cache: Path
    """Folder of the cache; made if it does not exist."""

    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)

    def run(self) -> int:
        """Builds the cache, prints the gate report."""
        from tqdm import tqdm

        from fusionproxy_jax.input_pipeline.pairs import load_pairs
        from fusionproxy_jax.input_pipeline.split import split_pairs
        from fusionproxy_jax.teachers.cache import build_cache

        data = self.config.data
        pairs = load_pairs(data.sources)
        train, validation = split_pairs(pairs.ids_and_groups, data.validation_fraction)
        print(f"{len(train)} training pairs, {len(validation)} held out")
        with tqdm(unit="tile", desc="teach") as bar:

            def show(done: int, total: int) -> None:
                if bar.total != total:
                    bar.reset(total)
                if done == 0 or done > bar.n:
                    bar.update(done - bar.n)

            cache = build_cache(
                pairs.subset(train), self.config.teacher, self.cache, progress=show
            )
        print(_summary(cache.report))
        print(f"{len(cache)} tiles in {self.cache}, hash {cache.hash}")
        return 0


def _summary(report: dict) -> str:
    """Returns the gate report as lines a person reads."""
    lines = [
        "standard deviation of samples: "
        f"{report['deviation_where_sources_disagree']:.4f} where the sources disagree, "
        f"{report['deviation_where_sources_agree']:.4f} where they agree, "
        f"{report['deviation_between']:.4f} between teachers",
        f"median infrared weight {report['median_infrared_weight']:.2f}, "
        f"low-pass correlation {report['median_low_pass_correlation']:.2f}, "
        f"worst added saturation {100 * report['worst_added_saturation']:.1f} %",
    ]
    for criterion, passed in report["passed"].items():
        lines.append(f"  {'pass' if passed else 'FAIL'}  {criterion}")
    return "\n".join(lines)
