import dataclasses
import math
from pathlib import Path

import pytest

from fusionproxy_jax.config import TeacherConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.sweeps.members import load_sweep
from fusionproxy_jax.sweeps.programs import programs_of
from fusionproxy_jax.sweeps.settings import varied_settings

FILE = Path(__file__).parents[2] / "experiments/sweeps/temperature.py"


def test_the_temperature_sweep_is_one_program_of_temperatures_and_seeds(monkeypatch):
    monkeypatch.setenv("FUSIONPROXY_DATA", "data")
    members = load_sweep(FILE)
    assert len(members) == 12 and len(programs_of(members)) == 1
    configs = list(map(dataclasses.asdict, members.values()))
    assert varied_settings(configs) == ("loss.routing_temperature", "seed")
    assert members["tau=inf,seed=1"].loss.routing_temperature == math.inf
    assert members["tau=0.01,seed=0"].seed == 0
    base = members["tau=1,seed=0"]
    # What `fusionproxy teach --config` makes the cache of.
    assert base.teacher == TeacherConfig(
        teachers=("ddfm", "mask_difuser"), tile_px=128, tiles_per_image=1
    )
    assert base.data.sources == tuple(
        str(Path("data") / name) for name in ("roadscene", "msrs", "m3fd", "m3svd")
    )


def test_without_data_it_says_what_to_set(monkeypatch):
    monkeypatch.delenv("FUSIONPROXY_DATA", raising=False)
    with pytest.raises(FusionProxyError, match="FUSIONPROXY_DATA is not set"):
        load_sweep(FILE)
