"""Peaks are of small matrices here: nothing is done with them."""

import functools

import pytest

from fusionproxy_jax.evaluation.machine import measure_gemm_peak


@pytest.fixture(autouse=True)
def small_peak(monkeypatch):
    monkeypatch.setattr(
        "fusionproxy_jax.commands.bench.ruler_report.measure_gemm_peak",
        functools.partial(measure_gemm_peak, size=64, num_rounds=2),
    )
