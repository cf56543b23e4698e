import numpy as np
import pytest
from checkpoints.small_network import TABLE, Leaf, template, tensors, write

from fusionproxy_jax.checkpoints.checkpoint_file import open_checkpoint
from fusionproxy_jax.checkpoints.conversion_plan import (
    converted_tensors,
    plan_conversion,
)
from fusionproxy_jax.errors import FusionProxyError


def _plan(tmp_path, given, table=TABLE, shapes=None, **options):
    with open_checkpoint(write(tmp_path / "a.pt", given)) as source:
        return plan_conversion(source, table, shapes or template(), **options)


def _problems(*arguments, **options):
    with pytest.raises(FusionProxyError) as caught:
        _plan(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert "a.pt does not fit this network" in message
    return message


def test_every_parameter_has_a_step_in_the_order_of_the_file(tmp_path):
    steps = _plan(tmp_path, tensors())
    assert [step.key for step in steps] == list(tensors())
    assert {step.key: (step.target, step.transform) for step in steps} == TABLE


@pytest.mark.parametrize("key", TABLE)
def test_a_missing_tensor_is_named_with_its_parameter(tmp_path, key):
    given = tensors()
    del given[key]
    assert f"it lacks {key} (for {TABLE[key][0]})" in _problems(tmp_path, given)


@pytest.mark.parametrize("key", TABLE)
def test_without_its_rule_both_tensor_and_parameter_are_named(tmp_path, key):
    table = {name: rule for name, rule in TABLE.items() if name != key}
    message = _problems(tmp_path, tensors(), table)
    assert f"it has unknown '{key}'" in message
    assert f"no rule sets {TABLE[key][0]}" in message


@pytest.mark.parametrize("key", TABLE)
def test_a_tensor_of_another_shape_is_named(tmp_path, key):
    given = tensors()
    given[key] = np.concatenate([given[key], given[key]])
    message = _problems(tmp_path, given)
    assert f"shapes or types differ in {key} ({given[key].shape} for" in message


def test_a_tensor_that_only_a_transposition_would_fit_is_named(tmp_path):
    given = tensors()
    given["blocks.0.dense.weight"] = given["blocks.0.dense.weight"].T
    assert "blocks.0.dense.weight ((4, 5) for" in _problems(tmp_path, given)


def test_a_parameter_that_the_network_lacks_is_named(tmp_path):
    shapes = template()
    del shapes["params"]["time"]
    message = _problems(tmp_path, tensors(), shapes=shapes)
    assert "rules set unknown params/time/embedding" in message


def test_whole_numbers_are_no_parameters(tmp_path):
    given = tensors()
    given["stem.bias"] = np.arange(4)
    assert "stem.bias (int64 is no float type)" in _problems(tmp_path, given)


def test_all_problems_are_named_at_once(tmp_path):
    given = tensors()
    del given["stem.bias"]
    given["stem.weight"] = given["stem.weight"][:1]
    given["extra"] = np.zeros(1, np.float32)
    message = _problems(tmp_path, given)
    for name in ("lacks stem.bias", "unknown 'extra'", "in stem.weight ((1, 2, 3, 3)"):
        assert name in message


def test_of_many_names_a_few_are_given_and_all_are_counted(tmp_path):
    given = tensors() | {f"extra.{n}": np.zeros(1, np.float32) for n in range(9)}
    message = _problems(tmp_path, given)
    assert "'extra.3', ... (9 in all)" in message
    assert "extra.4" not in message


def test_ignored_keys_need_no_rule_by_name_or_pattern(tmp_path):
    given = tensors() | {
        name: np.zeros(1, np.float32)
        for name in ("template.0.weight", "template.1.bias", "unused")
    }
    steps = _plan(tmp_path, given, ignored=("template.*", "unused"))
    assert len(steps) == len(TABLE)
    assert "'unused'" in _problems(tmp_path, given, ignored=("template.*", "unuse"))


def test_a_pattern_does_not_hide_a_key_that_has_a_rule(tmp_path):
    assert len(_plan(tmp_path, tensors(), ignored=("*",))) == len(TABLE)


def test_a_second_name_must_hold_the_same_values(tmp_path):
    aliases = {"twin.weight": "stem.weight"}
    given = tensors()
    given["stem.weight"][0, 0, 0, 0] = np.nan
    given["twin.weight"] = given["stem.weight"].copy()
    assert len(_plan(tmp_path, given, aliases=aliases)) == len(TABLE)
    for other in (given["stem.weight"] + 1, given["stem.weight"][:2]):
        message = _problems(tmp_path, given | {"twin.weight": other}, aliases=aliases)
        assert "second names differ" in message
        assert "twin.weight (of stem.weight)" in message


def test_a_second_name_without_its_first_is_named(tmp_path):
    given = tensors()
    given["twin.weight"] = given.pop("stem.weight")
    message = _problems(tmp_path, given, aliases={"twin.weight": "stem.weight"})
    assert "twin.weight (of stem.weight)" in message


def test_a_second_name_may_be_absent(tmp_path):
    assert len(_plan(tmp_path, tensors(), aliases={"twin": "stem.weight"})) == len(
        TABLE
    )


def test_prefixes_come_off_in_their_order(tmp_path):
    given = {f"module.model.{name}": values for name, values in tensors().items()}
    steps = _plan(tmp_path, given, prefixes=("module.", "model."))
    assert {step.key for step in steps} == given.keys()
    assert "unknown 'model.time.weight'" in _problems(tmp_path, given)


def test_prefixes_come_off_ignored_keys_and_second_names_too(tmp_path):
    given = tensors() | {
        "twin": tensors()["stem.bias"],
        "unused": tensors()["stem.bias"],
    }
    given = {f"module.{name}": values for name, values in given.items()}
    steps = _plan(tmp_path, given, ignored=("unused",), aliases={"twin": "stem.bias"})
    assert len(steps) == len(TABLE)


def test_a_key_with_and_without_prefix_is_named(tmp_path):
    given = tensors() | {"module.stem.bias": tensors()["stem.bias"]}
    assert "twice, with and without a prefix, stem.bias" in _problems(tmp_path, given)


def test_a_prefix_that_belongs_to_the_network_stays(tmp_path):
    table = TABLE | {"module.gain": ("params/module/gain", "as_is")}
    shapes = template()
    shapes["params"]["module"] = {"gain": Leaf((4,))}
    given = tensors() | {"module.gain": tensors()["stem.bias"]}
    assert len(_plan(tmp_path, given, table, shapes)) == len(table)


def test_names_from_the_file_stay_in_one_line(tmp_path):
    given = tensors() | {"two\nlines": np.zeros(1, np.float32)}
    assert r"'two\nlines'" in _problems(tmp_path, given)


def test_rules_that_cannot_be_right_are_an_error_of_the_program(tmp_path):
    twice = TABLE | {"other.bias": TABLE["stem.bias"]}
    with pytest.raises(ValueError, match="same target"):
        _plan(tmp_path, tensors(), twice)
    with pytest.raises(ValueError, match="no transform"):
        _plan(tmp_path, tensors(), TABLE | {"stem.bias": ("params/stem/bias", "turn")})


def test_a_value_too_large_for_the_type_names_its_key(tmp_path):
    given = tensors()
    given["stem.bias"][2] = 1e30
    with open_checkpoint(write(tmp_path / "a.pt", given)) as source:
        steps = plan_conversion(source, TABLE, template())
        assert len(list(converted_tensors(source, steps, "bfloat16"))) == len(TABLE)
        with pytest.raises(FusionProxyError, match="stem.bias too large for float16"):
            list(converted_tensors(source, steps, "float16"))
