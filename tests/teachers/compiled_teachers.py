"""Teachers that are compiled once for all caches a test module builds."""

import contextlib
from unittest import mock

import numpy as np

from fusionproxy_jax.teachers import cache
from fusionproxy_jax.teachers.registry import build_teachers


@contextlib.contextmanager
def compiled_once():
    """Has `build_cache` share teachers of equal settings and priors."""
    built = {}

    def build(config, prior):
        key = (config, *(np.asarray(values).tobytes() for values in prior))
        if key not in built:
            built[key] = build_teachers(config, prior)
        return built[key]

    with mock.patch.object(cache, "build_teachers", build):
        yield
