"""`fusionproxy prepare`: a public data set into records that training reads."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True)
class Prepare:
    """Prepare a public data set with its builder.

    fusionproxy prepare data/msrs

    The pairs are then the data source `tfds:msrs`.
    """

    recipe: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Folder of the builder: data/msrs, data/roadscene or data/m3fd."""

    data_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where prepared data sets lie; TFDS_DATA_DIR or ~/tensorflow_datasets."""

    manual_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """What you downloaded by hand, for data sets that cannot be downloaded otherwise;
    run without it to see the instructions."""

    def run(self) -> None:
        """Downloads if need be, writes the records and says where they are."""
        from fusionproxy_jax.input_pipeline.pair_builder import prepare_pairs
        from fusionproxy_jax.input_pipeline.prepared import default_data_dir

        folder = prepare_pairs(
            self.recipe,
            data_dir=self.data_dir or default_data_dir(),
            manual_dir=self.manual_dir,
        )
        print(f"prepared {folder}; use it as the data source tfds:{self.recipe.name}")
