import io
import os
import pickle
import struct

import numpy as np
import pytest
from checkpoints.torch_writers import (
    FORMS,
    Call,
    Name,
    Raw,
    Storage,
    Tensor,
    legacy_file,
    pickled,
    whole,
)

from fusionproxy_jax.checkpoints import torch_records
from fusionproxy_jax.checkpoints.checkpoint_file import open_checkpoint
from fusionproxy_jax.checkpoints.restricted_unpickler import load_torch_pickle
from fusionproxy_jax.checkpoints.stored_tensor import RefusedFileError
from fusionproxy_jax.errors import FusionProxyError

each_form = pytest.mark.parametrize("form", FORMS)


def _loaded(data):
    return load_torch_pickle(io.BytesIO(data))[0]


def _refused(data, words):
    with pytest.raises(RefusedFileError, match=words) as caught:
        _loaded(data)
    assert "\n" not in str(caught.value)


def _weights():
    return whole(np.ones(3, np.float32))


def _attacks(marker):
    """Calls that make the marker, if anything of them runs."""
    touch = f"touch {marker}"
    opened = f"open({str(marker)!r}, 'w').close()"
    return {
        "posix.system": Call(Name("posix", "system"), (touch,)),
        "os.system": Call(Name("os", "system"), (touch,)),
        "builtins.eval": Call(Name("builtins", "eval"), (opened,)),
        "builtins.exec": Call(Name("builtins", "exec"), (opened,)),
        "builtins.getattr": Call(Name("builtins", "getattr"), (1, "real")),
        "subprocess.Popen": Call(
            Name("subprocess", "Popen"), (["touch", str(marker)],)
        ),
        "numpy.load": Call(Name("numpy", "load"), (str(marker),)),
        "torch.load": Call(Name("torch", "load"), (str(marker),)),
    }


@each_form
@pytest.mark.parametrize("name", _attacks(""))
def test_code_in_a_file_is_refused_by_name_and_never_runs(tmp_path, form, name):
    marker, path = tmp_path / "attacked", tmp_path / "a.pt"
    path.write_bytes(FORMS[form]({"w": _weights(), "x": _attacks(marker)[name]}))
    with pytest.raises(FusionProxyError, match=name):
        open_checkpoint(path)
    assert not marker.exists()


def test_the_attacks_of_these_tests_are_real(tmp_path):
    for name in ("posix.system", "builtins.eval"):
        marker = tmp_path / name
        pickle.loads(pickled(_attacks(marker)[name]))
        assert marker.exists()


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_an_object_with_code_is_refused_in_every_protocol(tmp_path, protocol):
    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'attacked'}",)

    _refused(pickle.dumps({"w": Attack()}, protocol), "posix.system|instruction")
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("pickle_number", range(4))
def test_code_in_any_pickle_of_a_legacy_file_never_runs(tmp_path, pickle_number):
    marker, path = tmp_path / "attacked", tmp_path / "a.pt"
    data = legacy_file({"w": _weights()})
    file, ends = io.BytesIO(data), [0]
    for _ in range(5):
        load_torch_pickle(file)
        ends.append(file.tell())
    # The magic number stays first: without it no reader goes further.
    start, end = ends[pickle_number + 1 : pickle_number + 3]
    attack = pickled(_attacks(marker)["posix.system"])
    path.write_bytes(data[:start] + attack + data[end:])
    with pytest.raises(FusionProxyError, match="posix.system"):
        open_checkpoint(path)
    assert not marker.exists()


def test_names_are_refused_before_anything_is_unpickled():
    # The instruction that would make the object comes later, and is refused as well.
    namespace = Raw(_opcodes(Name("argparse", "Namespace")) + b")\x81}b")
    _refused(pickled({"w": _weights(), "args": namespace}), "argparse.Namespace")


def test_a_name_that_is_forged_at_run_time_is_refused():
    # STACK_GLOBAL takes its names from the stack, where no scan sees them.
    forged = b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R."
    _refused(forged, "posix.system")


def test_names_are_shown_in_one_line():
    forged = b"\x80\x04\x8c\x05po\nix\x8c\x06sy\ntem\x93."
    _refused(forged, r"po\\nix.sy\\ntem")


def _built(target, state):
    """BUILD: sets the state of an object."""
    return Raw(_opcodes(target) + _opcodes(state) + b"b")


def _opcodes(value):
    return pickled(value)[2:-1]


@pytest.mark.parametrize(
    "target",
    [
        Name("torch._utils", "_rebuild_tensor_v2"),
        Name("torch", "FloatStorage"),
        Name("collections", "OrderedDict"),
        _weights(),
    ],
)
@pytest.mark.parametrize(
    "state",
    [{"name": "int8"}, (None, {"build": 1, "name": 2}), [1, 2], ("float64", 1, 2, 3)],
)
def test_known_names_cannot_be_changed_from_a_file(target, state):
    before = dict(torch_records.KNOWN)
    _refused(pickled(_built(target, state)), "damaged")
    assert dict(torch_records.KNOWN) == before
    assert not hasattr(before["torch", "FloatStorage"], "build")


def test_attributes_put_on_a_dict_do_not_mislead():
    # torch itself puts `_metadata` there.
    ordered = Call(Name("collections", "OrderedDict"), ())
    attributes = {"items": 1, "keys": 2, "_metadata": {"": {"version": 1}}}
    assert _loaded(pickled(_built(ordered, attributes))) == {}


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        ((13,), None, 0),
        ((12,), None, 1),
        ((2**40, 2**40), None, 0),
        ((2, 2), (10, 2), 0),
        ((1000, 1000), (0, 0), 0),
        ((0, 2**62, 2**62), None, 0),
        ((-1,), (1,), 0),
        ((3,), (-1,), 2),
        ((3,), (1, 1), 0),
        ((1,) * 40, (1,) * 40, 0),
        ((3.0,), (1,), 0),
        ((True,), (1,), 0),
        ((0,), (1,), 2**70),
        ((3,), (1,), -1),
    ],
)
def test_tensors_that_do_not_fit_their_storage_are_refused(shape, strides, offset):
    storage = Storage("0", np.zeros(12, np.float32))
    tensor = Tensor(storage, shape, strides or (1,) * len(shape), offset)
    _refused(pickled(tensor), "storage|wrongly")


def test_strides_never_taken_may_be_anything(tmp_path):
    storage = Storage("0", np.arange(3, dtype=np.float32))
    path = tmp_path / "a.pt"
    tensors = {
        "row": Tensor(storage, (1, 3), (2**200, 1)),
        "none": Tensor(storage, (0, 2), (2**200, 2**200)),
    }
    path.write_bytes(FORMS["zip"](tensors))
    with open_checkpoint(path) as source:
        np.testing.assert_array_equal(source.read("row"), [[0, 1, 2]])
        assert source.read("none").shape == (0, 2)


def test_one_storage_of_two_sizes_is_refused():
    values = np.zeros(12, np.float32)
    one = Tensor(Storage("0", values), (2,))
    for other in (
        Storage("0", values, claims=1000),
        Storage("0", values, kind="IntStorage"),
    ):
        _refused(pickled([one, Tensor(other, (2,))]), "two sizes or types")


def test_lazily_negated_tensors_are_refused_not_misread():
    tensor = whole(np.ones(3, np.float32))
    tensor.flags = {"neg": True}
    _refused(pickled(tensor), "negated")


@pytest.mark.parametrize(
    "pid",
    [
        ("storage", Name("torch", "FloatStorage"), "0", "cpu", -1),
        ("storage", Name("torch", "FloatStorage"), 0, "cpu", 1),
        ("storage", "FloatStorage", "0", "cpu", 1),
        ("module", Name("torch", "FloatStorage"), "0", "cpu", 1),
        ("storage", Name("torch", "FloatStorage"), "0", "cpu", 1, ("1", 0, 1)),
        ("storage",),
        "storage",
        7,
    ],
)
def test_storages_described_otherwise_than_by_torch_are_refused(pid):
    _refused(pickled(Raw(_opcodes(pid) + b"Q")), "damaged")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        # A memo entry numbered 2^32 - 1 would reserve 64 GB.
        (b"\x80\x02}r\xff\xff\xff\xff.", "memo"),
        # A text said to be 4 GB long.
        (b"\x80\x02X\xff\xff\xff\xffabc.", "absurdly long"),
        (b"\x80\x05\x96" + struct.pack("<Q", 2**60) + b".", "absurdly long"),
        # Endless, cut or not a pickle.
        (b"\x80\x02}", "cannot be read"),
        (b"\x80\x02.", "cannot be read"),
        (b"", "cannot be read"),
        (b"hello world", "cannot be read|instruction"),
        # OrderedDict of an argument, which could copy it again and again.
        (pickled(Call(Name("collections", "OrderedDict"), ([],))), "cannot be read"),
        # The registry of extensions can name anything.
        (b"\x80\x02\x82\x01.", "instruction EXT1"),
        (b"\x80\x02ctorch\nSize\n)\x81.", "instruction NEWOBJ"),
    ],
)
def test_bombs_and_rubbish_are_refused(data, words):
    _refused(data, words)


def test_plain_containers_and_settings_come_through():
    value = {
        "epoch": 3,
        "big": 2**70,
        "rates": [1e-4, None, True],
        "size": Call(Name("torch", "Size"), ((1, 2),)),
        "dtype": Name("torch", "float16"),
    }
    assert _loaded(pickled(value)) == {
        "epoch": 3,
        "big": 2**70,
        "rates": [1e-4, None, True],
        "size": (1, 2),
        "dtype": "float16",
    }


def test_the_position_afterwards_is_behind_the_pickle():
    file = io.BytesIO(b"##" + pickled({"a": 1}) + b"rest")
    file.seek(2)
    assert load_torch_pickle(file) == ({"a": 1}, {})
    assert file.read() == b"rest"
