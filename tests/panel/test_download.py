import errno
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import errors
from panel.tiny_panel import add_snapshot, add_weights, tensors, tiny_model
from safetensors.numpy import save

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.panel.download import fetch_weights

MODEL = tiny_model()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def online(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def _downloading(monkeypatch, act):
    """Replaces the hub's download; returns what it was asked for."""
    asked = []

    def download(repository, **options):
        asked.append((repository, options))
        if isinstance(act, Exception):
            raise act
        act()

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return asked


def _answer(kind, status):
    """An error as the hub's client makes it of an HTTP answer."""
    response = SimpleNamespace(headers={}, request=None, status_code=status)
    return kind(f"{status} Client Error.\n\nMore lines.", response=response)


def test_only_safetensors_and_the_configuration_are_downloaded(cache, monkeypatch):
    asked = _downloading(monkeypatch, lambda: add_weights(cache, MODEL))
    path = fetch_weights(MODEL)
    assert path.read_bytes() == save(tensors())
    ((repository, options),) = asked
    assert repository == MODEL.repository and not options["force_download"]
    offered = [
        "config.json",
        "flax_model.msgpack",
        "model-00001-of-00002.safetensors",
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "README.md",
        "tf_model.h5",
        "onnx/model.safetensors.onnx",
    ]
    taken = huggingface_hub.utils.filter_repo_objects(
        offered, allow_patterns=options["allow_patterns"]
    )
    assert set(taken) == {
        "config.json",
        "model-00001-of-00002.safetensors",
        "model.safetensors",
        "model.safetensors.index.json",
    }


def test_weights_that_are_here_are_not_downloaded_again(cache, monkeypatch):
    path = add_weights(cache, MODEL)
    asked = _downloading(monkeypatch, lambda: None)
    assert fetch_weights(MODEL) == path and asked == []


def test_damaged_weights_are_downloaded_again(cache, monkeypatch):
    path = add_weights(cache, MODEL)
    path.resolve().write_bytes(b"\0" * 20)
    asked = _downloading(monkeypatch, lambda: add_weights(cache, MODEL))
    assert fetch_weights(MODEL) == path
    assert asked[0][1]["force_download"]


def test_the_hubs_own_offline_mode_is_one_sentence(cache):
    # Nothing is replaced here: the tests run offline.
    with pytest.raises(FusionProxyError, match="laboratory/tiny-net: HF_HUB_OFFLINE"):
        fetch_weights(MODEL)
    assert not list(cache.rglob("*"))


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (errors.OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE forbids"),
        (errors.LocalEntryNotFoundError("Got: x\nmore"), "cannot be reached"),
        (_answer(errors.RepositoryNotFoundError, 404), "there is no public https"),
        (_answer(errors.GatedRepoError, 403), "asks for consent.*hf auth login"),
        (_answer(errors.HfHubHTTPError, 503), "503 Client Error.; what has arrived"),
        (OSError(errno.ENOSPC, "No space left"), "No space left; what has arrived"),
        (RuntimeError(), "RuntimeError; what has arrived is kept"),
    ],
)
def test_every_failure_is_one_sentence_that_names_the_repository(
    cache, online, monkeypatch, error, sentence
):
    _downloading(monkeypatch, error)
    with pytest.raises(
        FusionProxyError, match=f"could not fetch laboratory/tiny-net: .*{sentence}"
    ) as raised:
        fetch_weights(MODEL)
    assert "\n" not in str(raised.value) and raised.value.__cause__ is error


def test_a_repository_without_safetensors_is_told(cache, monkeypatch):
    _downloading(
        monkeypatch,
        lambda: add_snapshot(cache, MODEL.repository, {"config.json": b"{}"}),
    )
    with pytest.raises(FusionProxyError, match="no safetensors came.*tiny=PATH"):
        fetch_weights(MODEL)


def test_weights_of_another_network_are_refused_when_they_arrive(cache, monkeypatch):
    other = {"model.safetensors": save(tensors(width=5))}
    _downloading(monkeypatch, lambda: add_snapshot(cache, MODEL.repository, other))
    with pytest.raises(FusionProxyError, match="does not fit this network"):
        fetch_weights(MODEL)
