"""What the adapter needs of google-research/scenic, restated: modules in memory."""

import dataclasses
import functools
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class BaseModel:
    """Holds settings, what the data says of itself, and the network."""

    def __init__(self, config: Any, dataset_meta_data: dict[str, Any]) -> None:
        self.config = self.default_flax_model_config() if config is None else config
        self.dataset_meta_data = dataset_meta_data
        self.flax_model = self.build_flax_model()

    def get_metrics_fn(self, split=None):
        raise NotImplementedError

    def get_metrics_fn_jit(self, split=None):
        raise NotImplementedError

    def loss_function(self, logits, batch, model_params=None):
        raise NotImplementedError

    def build_flax_model(self):
        raise NotImplementedError

    def default_flax_model_config(self):
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Dataset:
    train_iter: Any = None
    valid_iter: Any = None
    test_iter: Any = None
    meta_data: dict[str, Any] = dataclasses.field(default_factory=dict)
    train_ds: Any = None
    valid_ds: Any = None
    test_ds: Any = None


def _registry() -> type:
    """Returns a registry of its own for every installation."""

    class DatasetRegistry:
        builders: dict[str, Any] = {}

        @classmethod
        def add(cls, name, builder):
            if name in cls.builders:
                raise KeyError(f"{name} is taken")
            cls.builders[name] = builder

        @classmethod
        def get(cls, name):
            return cls.builders[name]

        @classmethod
        def list(cls):
            return list(cls.builders)

    return DatasetRegistry


def install(monkeypatch) -> None:
    """Puts the modules where imports find them."""
    registry = _registry()

    def add_dataset(name, *args, **options):
        def add(builder):
            registry.add(name, functools.partial(builder, *args, **options))
            return builder

        return add

    contents = {
        "scenic": {},
        "scenic.model_lib": {},
        "scenic.model_lib.base_models": {},
        "scenic.model_lib.base_models.base_model": {"BaseModel": BaseModel},
        "scenic.dataset_lib": {},
        "scenic.dataset_lib.dataset_utils": {"Dataset": Dataset},
        "scenic.dataset_lib.datasets": {
            "DatasetRegistry": registry,
            "add_dataset": add_dataset,
            "get_dataset": registry.get,
        },
    }
    for name, values in contents.items():
        module = ModuleType(name)
        module.__path__ = []
        module.__spec__ = ModuleSpec(name, None, is_package=True)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
