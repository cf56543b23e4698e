import types

import numpy as np
import pytest

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.training.batch_rows import rows_of_process


def devices(*counts):
    """Devices of processes that have so many each."""
    return [
        types.SimpleNamespace(process_index=index)
        for index, count in enumerate(counts)
        for _ in range(count)
    ]


@pytest.mark.parametrize("counts", [(1,), (8,), (2, 2), (3, 1, 2)])
@pytest.mark.parametrize("batch_size", [6, 8, 13])
@pytest.mark.parametrize("num_parts", [1, 3])
def test_every_image_is_in_one_place_and_devices_get_equally_many_rows(
    counts, batch_size, num_parts
):
    shares = [
        rows_of_process(
            batch_size, devices(*counts), num_parts=num_parts, process_index=index
        )
        for index in range(len(counts))
    ]
    assert [row for share in shares for row in share.own] == list(range(batch_size))
    per_device = {
        share.num_rows / count for share, count in zip(shares, counts, strict=True)
    }
    assert len(per_device) == 1
    (rows,) = per_device
    assert rows % num_parts == 0
    # No more than what divides the batch needs.
    assert rows - num_parts < batch_size / sum(counts)


def test_the_order_of_devices_changes_nothing():
    ordered = devices(2, 2)
    interleaved = [ordered[0], ordered[2], ordered[1], ordered[3]]
    for index in range(2):
        share = rows_of_process(6, interleaved, process_index=index)
        assert share == rows_of_process(6, ordered, process_index=index)


def test_what_fills_up_weighs_nothing():
    share = rows_of_process(5, devices(2, 2), process_index=1)
    assert (share.own, share.num_rows) == (range(2, 5), 4)
    filled = share.fill_up({"x": np.array([[7.0], [8.0], [9.0]])})
    np.testing.assert_array_equal(filled["x"], [[7.0], [8.0], [9.0], [7.0]])
    np.testing.assert_array_equal(filled["weight"], [1.0, 1.0, 1.0, 0.0])
    np.testing.assert_array_equal(filled["position"], [2, 3, 4, 2])


def test_a_process_without_an_image_is_refused():
    with pytest.raises(FusionProxyError, match="batch_size is 2; .* process 0 of 3"):
        rows_of_process(2, devices(1, 1, 1), process_index=0)
    with pytest.raises(FusionProxyError, match="process 2 has none of the 2 devices"):
        rows_of_process(2, devices(1, 1), process_index=2)
