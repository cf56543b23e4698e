from collections import OrderedDict

import numpy as np
import pytest

from fusionproxy_jax.checkpoints.state_dict import find_state_dict
from fusionproxy_jax.checkpoints.stored_tensor import RefusedFileError, stored_type
from fusionproxy_jax.checkpoints.torch_records import Storage, TorchTensor

TENSOR = TorchTensor(Storage("0", stored_type("float32"), 6), 0, (2, 3), (3, 1))
SCALAR = TENSOR._replace(shape=(), strides=())


def test_a_plain_state_dict_is_itself():
    tensors = OrderedDict({"b.weight": TENSOR, "a.weight": SCALAR})
    assert list(find_state_dict(tensors)) == ["b.weight", "a.weight"]


@pytest.mark.parametrize("name", ["state_dict", "model", "ema", "anything"])
def test_the_only_set_of_tensors_is_found_under_any_name(name):
    content = {"epoch": 3, name: {"w": TENSOR}, "args": {"rate": 0.1}}
    assert find_state_dict(content) == {"w": TENSOR}
    assert find_state_dict({"checkpoint": content}) == {"w": TENSOR}


def test_an_optimisers_tensors_are_passed_over():
    optimiser = {"state": {0: {"exp_avg": TENSOR}}, "param_groups": [{"lr": 0.1}]}
    content = {"model": {"w": TENSOR}, "optimizer": optimiser}
    assert find_state_dict(content) == {"w": TENSOR}


def test_settings_among_tensors_are_left_out():
    assert find_state_dict({"w": TENSOR, "num_updates": 3}) == {"w": TENSOR}


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"model": {"w": TENSOR}, "ema": {"w": SCALAR}}, "'ema', 'model'"),
        ({"model": {"w": TENSOR}, "best": SCALAR}, "'model', 'the top level'"),
    ],
)
def test_several_sets_of_tensors_are_refused_by_name(content, names):
    with pytest.raises(RefusedFileError, match=rf"2 sets of tensors \({names}\)"):
        find_state_dict(content)


def test_one_set_under_two_names_is_one():
    tensors = {"w": TENSOR}
    assert find_state_dict({"model": tensors, "ema": tensors}) == tensors


@pytest.mark.parametrize(
    "content", [{}, TENSOR, [TENSOR], 3, None, {"a": {"b": 1}}, {0: TENSOR}]
)
def test_anything_without_named_tensors_is_refused(content):
    with pytest.raises(RefusedFileError, match="no dict of named tensors"):
        find_state_dict(content)


def test_attributes_put_on_a_dict_do_not_mislead():
    tensors = OrderedDict({"w": TENSOR})
    tensors.items = tensors.keys = None
    assert find_state_dict(tensors) == {"w": TENSOR}


def test_dicts_within_themselves_and_exponential_ones_end():
    endless = {"w": TENSOR}
    endless["again"] = endless
    assert find_state_dict(endless)["w"] is TENSOR
    doubled = {"w": np.nan}
    for _ in range(100):
        doubled = {"left": doubled, "right": doubled}
    with pytest.raises(RefusedFileError, match="no dict"):
        find_state_dict(doubled)
