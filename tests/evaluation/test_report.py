import numpy as np

from fusionproxy_jax.evaluation.metrics import METRICS
from fusionproxy_jax.evaluation.report import mean_metrics, mean_ranks, table


def test_means_are_taken_per_method_and_metric():
    images = [
        {"a": dict.fromkeys(METRICS, value), "b": dict.fromkeys(METRICS, -value)}
        for value in (1.0, 2.0, 6.0)
    ]
    means = mean_metrics(images)
    assert means["a"] == dict.fromkeys(METRICS, 3.0)
    assert means["b"]["EN"] == -3.0


def test_ranks_count_from_the_largest_value_and_average_over_metrics():
    means = {
        "always first": {metric: 3.0 for metric in METRICS},
        "last once": {metric: 2.0 for metric in METRICS} | {"EN": 0.0},
        "last else": {metric: 1.0 for metric in METRICS},
    }
    ranks = mean_ranks(means)
    assert ranks["always first"] == 1
    np.testing.assert_allclose(ranks["last once"], (8 * 2 + 3) / 9)
    np.testing.assert_allclose(ranks["last else"], (8 * 3 + 2) / 9)


def test_equal_methods_share_their_ranks():
    same = dict.fromkeys(METRICS, 1.0)
    ranks = mean_ranks({"a": same, "b": same, "c": dict.fromkeys(METRICS, 2.0)})
    assert ranks == {"a": 2.5, "b": 2.5, "c": 1.0}


def test_the_table_names_every_metric_and_lines_up():
    means = {
        "a rather long name": dict.fromkeys(METRICS, 12.34567),
        "b": dict.fromkeys(METRICS, 0.5),
    }
    lines = table(means).splitlines()
    assert lines[0].split() == ["method", *METRICS, "rank"]
    assert len({len(line) for line in lines}) == 1
    assert lines[1].split()[-2:] == ["12.35", "1.00"]
    assert lines[2].split()[0] == "b"
