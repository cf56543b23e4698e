import dataclasses

import pytest

from fusionproxy_jax.config import Config, LossConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.sweeps.members import check_members, load_sweep

HEAD = "from fusionproxy_jax.config import Config, LossConfig\n"


@pytest.fixture
def write(tmp_path):
    def write_file(body, head=HEAD):
        path = tmp_path / "sweep.py"
        path.write_text(head + body)
        return path

    return write_file


def test_a_file_gives_its_members_in_order(write):
    path = write(
        "def sweep():\n    return {f'seed={s},a': Config(seed=s) for s in (2, 1)}\n"
    )
    assert list(load_sweep(path).items()) == [
        ("seed=2,a", Config(seed=2)),
        ("seed=1,a", Config(seed=1)),
    ]


def test_settings_are_changed_in_every_member(write):
    path = write("def sweep():\n    return {'a': Config(), 'b': Config(seed=1)}\n")
    changed = load_sweep(path, ["num_steps=5", "loss.epsilon=0.5"])
    loss = LossConfig(epsilon=0.5)
    assert changed == {
        "a": Config(num_steps=5, loss=loss),
        "b": Config(num_steps=5, loss=loss, seed=1),
    }


def test_members_that_a_change_makes_alike_are_refused(write):
    path = write("def sweep():\n    return {'a': Config(), 'b': Config(seed=1)}\n")
    with pytest.raises(FusionProxyError, match="with --set has two members .* a and b"):
        load_sweep(path, ["seed=1"])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FusionProxyError, match="no sweep file at .*none.py"):
        load_sweep(tmp_path / "none.py")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("", r"defines no sweep\(\)"),
        ("def sweep(:\n", "fails in line 2: SyntaxError"),
        ("x = 1 / 0\n", "fails in line 2: ZeroDivisionError: division by zero"),
        ("def sweep():\n    return Config(num_stepz=1)\n", "in line 3: .*num_stepz"),
        ("def sweep(name):\n    return {}\n", "TypeError: .*name"),
        ("def sweep():\n    return [Config()]\n", "is a list; it must be a dict"),
        ("def sweep():\n    return {'a': 3}\n", "is a dict of str to int; it must"),
        ("def sweep():\n    return {1: Config()}\n", "is a dict of int to Config"),
        ("def sweep():\n    return {}\n", "has no members"),
        ("def sweep():\n    return {'a/b': Config()}\n", "a member 'a/b', but names"),
        ("def sweep():\n    return {'..': Config()}\n", "no dot first"),
        ("def sweep():\n    return {'': Config()}\n", "has a member ''"),
        (
            "def sweep():\n    return {'a': Config(), 'b': Config()}\n",
            "two members of the same settings, a and b",
        ),
        (
            "def sweep():\n    return {'a': Config(num_steps=-1)}\n",
            "num_steps is -1; it must be >= 1$",
        ),
    ],
)
def test_every_mistake_in_a_file_is_one_sentence(write, body, sentence):
    with pytest.raises(FusionProxyError, match=sentence) as caught:
        load_sweep(write(body))
    assert "\n" not in str(caught.value)


def test_a_value_of_a_wrong_type_names_member_and_setting():
    bad = Config()
    object.__setattr__(bad, "num_steps", "many")
    with pytest.raises(FusionProxyError, match="member b of here: num_steps is 'many'"):
        check_members({"a": dataclasses.replace(Config()), "b": bad}, source="here")
