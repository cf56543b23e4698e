import sys

import pytest

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.integrations.scenic import (
    fusion_model,
    register_dataset,
)


def test_without_scenic_the_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "scenic", None)
    with pytest.raises(FusionProxyError, match="^google-research/scenic .* with git"):
        fusion_model()
    with pytest.raises(FusionProxyError, match="not on PyPI"):
        register_dataset()


def _forget_scenic(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "scenic"]:
        monkeypatch.delitem(sys.modules, name)


def test_the_namesake_from_pypi_is_told_apart_without_importing_it(
    tmp_path, monkeypatch
):
    (tmp_path / "scenic/core").mkdir(parents=True)
    (tmp_path / "scenic/__init__.py").write_text("raise RuntimeError('imported')")
    _forget_scenic(monkeypatch)
    monkeypatch.syspath_prepend(tmp_path)
    for ask in (fusion_model, register_dataset):
        with pytest.raises(FusionProxyError, match="scenario language.*cannot share"):
            ask()


def test_a_package_that_scenic_needs_is_named(tmp_path, monkeypatch):
    for folder in ("", "model_lib/", "model_lib/base_models/"):
        (tmp_path / "scenic" / folder).mkdir()
        (tmp_path / "scenic" / folder / "__init__.py").touch()
    module = tmp_path / "scenic/model_lib/base_models/base_model.py"
    module.write_text("import no_such_framework")
    _forget_scenic(monkeypatch)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FusionProxyError, match="needs the package 'no_such_framework'"):
        fusion_model()
    _forget_scenic(monkeypatch)
