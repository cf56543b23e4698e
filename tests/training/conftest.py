"""Training tests use the tiny student unless they ask for the real one."""

import pytest
from tiny_training import build_tiny

from fusionproxy_jax.training import build


@pytest.fixture
def tiny_student(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "build_student", build_tiny)
