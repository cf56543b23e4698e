"""Teachers that are compiled once for all caches a test module builds."""

import contextlib
import dataclasses
import functools
from unittest import mock

from fusionproxy_jax.teachers import beginning
from fusionproxy_jax.teachers.registry import build_teachers


@contextlib.contextmanager
def compiled_once():
    """Has `build_cache` share the compiled teachers of equal settings."""
    built = {}

    def build(config, prior):
        # Neither the seed nor the prior's values are compiled in.
        settings = dataclasses.replace(config, seed=0)
        if settings not in built:
            built[settings] = build_teachers(config, prior)
        return tuple(
            teacher._replace(draw=functools.partial(teacher.draw.func, prior))
            if teacher.name == "gaussian"
            else teacher
            for teacher in built[settings]
        )

    with mock.patch.object(beginning, "build_teachers", build):
        yield
