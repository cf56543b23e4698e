import os
import re
import socket
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from tiny_graphs import write_strided_conv

from fusionproxy_jax import cli
from fusionproxy_jax.config import Config
from fusionproxy_jax.diffusion.gaussian_prior import load_gaussian_prior
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.teachers.cache import open_cache
from fusionproxy_jax.training.loop import train


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Three pairs of 100x68, one of which the split holds out; 24 tiles train."""
    folder = tmp_path_factory.mktemp("pairs") / "made_up"
    rng = np.random.default_rng(0)
    for kind, shape in (("visible", (68, 100, 3)), ("infrared", (68, 100))):
        (folder / kind).mkdir(parents=True)
        for index in range(3):
            image = Image.fromarray(rng.integers(0, 256, shape, np.uint8))
            image.save(folder / kind / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A panel entry: an ONNX file of one convolution."""
    return write_strided_conv(tmp_path_factory.mktemp("network") / "conv.onnx")


def _arguments(source, cache, *options):
    return [
        "teach",
        f"--cache={cache}",
        "--data.sources",
        str(source),
        "--teacher.tile-px=32",
        "--samples=2",
        "--teachers=average",
        *options,
    ]


def _teach(source, cache, *options):
    return cli.run(_arguments(source, cache, *options))


def test_teach_draws_the_training_part_and_reports(source, tmp_path, capsys):
    options = (
        *("--teachers=gaussian, average", "--samples=3", "--sheets=2"),
        *("--teacher.ddfm.mode=balanced", "--teacher.ddfm.num-steps=2"),
    )
    assert _teach(source, tmp_path / "cache", *options) == 1
    cache = open_cache(tmp_path / "cache", allow_rejected=True)
    assert len(cache) == 2 * 12
    assert cache.report["num_pairs"] == 2 and cache.report["accepted"] is False
    assert cache.manifest.teacher["teachers"] == ["gaussian", "average"]
    assert cache.manifest.teacher["num_samples"] == 3
    assert len(list((tmp_path / "cache" / "sheets").iterdir())) == 2
    captured = capsys.readouterr()
    assert "2 training pairs, 1 held out" in captured.out
    assert "made_up: 24 tiles" in captured.out
    assert f"24 tiles in {tmp_path / 'cache'}, hash {cache.hash}" in captured.out
    assert "24/24" in captured.err
    last = captured.err.strip().splitlines()[-1]
    assert last.startswith(
        "fusionproxy: the ensemble failed its gate, it does not hold"
    )
    assert "--accept-failed-gate" in last


def test_teach_with_a_panel_says_what_its_features_take(
    source, network, tmp_path, capsys
):
    options = ("--panel.grid=16", "--panel.backbones", network)
    assert _teach(source, tmp_path, *options) == 1
    cache = open_cache(tmp_path, allow_rejected=True)
    (entry,) = cache.panel
    assert (entry.name, entry.feature_grid, entry.num_channels) == ("conv#y", (8, 8), 5)
    assert cache.with_panel(["conv#y"])[23]["feature_target/conv#y"].shape == (8, 8, 5)
    assert not list(tmp_path.glob("samples-*"))
    captured = capsys.readouterr()
    # 2 samples of 16 x 16 x 5 float32 to 8 x 8 x 5 and 16 x 16 float16.
    assert (
        "conv#y: features 8x8x5, 0.00 MB per tile, 9 times less than those of all 2 "
        "samples at 16x16 in float32; mean variance 0" in captured.out
    )
    for name in ("teach", "scale", "features"):
        assert f"{name}: 100%" in captured.err
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    _teach(source, tmp_path, "--keep-samples", *options)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == before


def test_kept_samples_serve_a_panel_that_comes_later(source, network, tmp_path):
    _teach(source, tmp_path, "--keep-samples")
    samples = sorted(tmp_path.glob("samples-*"))
    assert len(samples) == 2
    before = [path.stat().st_mtime_ns for path in samples]
    _teach(source, tmp_path, "--keep-samples", "--panel.backbones", network)
    assert [path.stat().st_mtime_ns for path in samples] == before
    assert len(open_cache(tmp_path, allow_rejected=True).panel) == 1


def test_samples_of_another_cache_are_taken_instead_of_drawn(
    source, network, tmp_path, capsys
):
    settings = ("--teacher.ddfm.mode=balanced", "--teacher.ddfm.num-steps=2")
    drawn = ("--teachers=gaussian,average", "--samples=3", "--keep-samples", *settings)
    _teach(source, tmp_path / "drawn", *drawn)
    taken = (
        *(f"--samples-of={tmp_path / 'drawn'}", "--teachers=gaussian", "--samples=2"),
        *("--teacher.variance=within", "--panel.target=features_of_mean"),
        *("--panel.backbones", network, *settings),
    )
    _teach(source, tmp_path / "taken", *taken)
    assert "its targets are features of the mean sample" in capsys.readouterr().out
    first, second = (
        open_cache(tmp_path / name, allow_rejected=True) for name in ("drawn", "taken")
    )
    assert second.manifest.samples_of == first.hash
    assert second.manifest.settings["variance"] == "within"
    assert len(second) == len(first) == 24 and len(second.panel) == 1
    np.testing.assert_allclose(
        second[7]["ensemble_mean"], first[7]["teacher_mean/gaussian"], atol=0.5
    )
    assert np.any(second[7]["ensemble_mean"] != first[7]["teacher_mean/gaussian"])


def test_what_holds_no_samples_is_told_before_pairs_are_read(source, tmp_path):
    told = "nothing holds no teacher cache; build one with"
    with pytest.raises(FusionProxyError, match=told):
        _teach(
            *(source / "missing", tmp_path / "new"),
            f"--samples-of={tmp_path / 'nothing'}",
        )
    _teach(source, tmp_path / "plain")
    with pytest.raises(FusionProxyError, match="plain kept no samples of 2 of its 2"):
        _teach(source, tmp_path / "new", f"--samples-of={tmp_path / 'plain'}")
    assert not (tmp_path / "new").exists()


def test_a_panel_without_the_option_removes_kept_samples_as_its_help_says(
    source, network, tmp_path, capsys
):
    _teach(source, tmp_path, "--keep-samples")
    assert list(tmp_path.glob("samples-*"))
    _teach(source, tmp_path, "--panel.backbones", network)
    assert not list(tmp_path.glob("samples-*"))
    with pytest.raises(SystemExit):
        cli.run(["teach", "--help"])
    words = re.findall(r"[\w-]+", capsys.readouterr().out)
    assert "taught without this option removes those kept before" in " ".join(words)


def test_missing_weights_stop_it_before_anything_is_drawn(source, tmp_path):
    with pytest.raises(FusionProxyError, match="fusionproxy panel fetch vgg16"):
        _teach(source, tmp_path / "cache", "--panel.backbones", "vgg16")
    assert not (tmp_path / "cache").exists()


def test_held_out_pairs_get_features_only_where_a_panel_is_named(
    source, network, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        "fusionproxy_jax.panel.onnx_backbone.find_compact", lambda: [network]
    )
    _teach(source, tmp_path / "auto", "--split=validation")
    assert open_cache(tmp_path / "auto", allow_rejected=True).panel == ()
    _teach(
        source, tmp_path / "named", "--split=validation", "--panel.backbones", network
    )
    assert len(open_cache(tmp_path / "named", allow_rejected=True).panel) == 1


def test_train_refuses_a_failed_ensemble_until_it_is_accepted(source, tmp_path, capsys):
    assert _teach(source, tmp_path / "cache") == 1
    with pytest.raises(FusionProxyError, match="failed its gate.*accept-failed-gate"):
        train(Config(), tmp_path / "cache", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    shard = tmp_path / "cache" / "shard-00000.array_record"
    before = shard.stat().st_mtime_ns
    assert _teach(source, tmp_path / "cache", "--accept-failed-gate") == 0
    assert shard.stat().st_mtime_ns == before
    assert "accepted by override, although" in capsys.readouterr().out
    open_cache(tmp_path / "cache")


def test_teach_again_draws_nothing_and_says_the_same(source, tmp_path, capsys):
    _teach(source, tmp_path)
    first = capsys.readouterr().out
    shard = tmp_path / "shard-00000.array_record"
    before = shard.stat().st_mtime_ns
    _teach(source, tmp_path)
    assert shard.stat().st_mtime_ns == before
    assert capsys.readouterr().out == first


def test_teach_refuses_a_folder_of_another_teacher(source, tmp_path):
    _teach(source, tmp_path)
    with pytest.raises(FusionProxyError, match="teacher.ddfm.eta was 0.0, now 1.0"):
        _teach(source, tmp_path, "--teacher.ddfm.eta=1.0")


def test_held_out_pairs_are_drawn_with_the_prior_of_the_training_part(source, tmp_path):
    _teach(source, tmp_path / "train")
    _teach(source, tmp_path / "validation", "--split=validation")
    train, validation = (
        open_cache(tmp_path / split, allow_rejected=True)
        for split in ("train", "validation")
    )
    ids = [{tile["id"].split("@")[0] for tile in part} for part in (train, validation)]
    assert [len(part) for part in ids] == [2, 1] and not ids[0] & ids[1]
    priors = [
        load_gaussian_prior(c.directory / "prior.npz") for c in (train, validation)
    ]
    np.testing.assert_array_equal(priors[0].power, priors[1].power)
    with pytest.raises(FusionProxyError, match="holds 2 pairs, now there are 1"):
        _teach(source, tmp_path / "train", "--split=validation")


def test_an_early_process_says_what_others_owe_and_ends_well(source, tmp_path, capsys):
    part = ("--process-count=2", "--process-index")
    assert _teach(source, tmp_path, *part, "1") == 0
    told = "process 1 of 2 is done; 1 of 2 parts of"
    assert told in capsys.readouterr().out
    assert _teach(source, tmp_path, *part, "0") == 1
    assert "made_up: 24 tiles" in capsys.readouterr().out


def test_a_process_says_when_only_features_are_still_to_come(
    source, network, tmp_path, capsys
):
    _teach(source, tmp_path)
    options = ("--panel.backbones", network, "--process-count=2", "--process-index")
    assert _teach(source, tmp_path, *options, "1") == 0
    told = "process 1 of 2 is done; features of the panel of"
    assert told in capsys.readouterr().out
    assert _teach(source, tmp_path, *options, "0") == 1
    assert "conv#y: features 8x8x5" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--teachers=average,dream"], "--teachers names 'dream'; teachers are ddfm"),
        (["--teachers="], "teacher.teachers is .*at least one"),
        (["--teachers=average,average"], "without repetition"),
        (["--samples=0"], "teacher.num_samples is 0"),
        (["--sheets=-1"], "--sheets is -1"),
        (["--tiles-per-draw=99"], "tiles_per_draw is 99"),
        (["--process-index=3"], "process_index is 3 and process_count None"),
        (["--process-index=3", "--process-count=3"], "must be 0 to 2"),
        (["--distributed", "--process-index=0"], "--distributed takes the process's"),
        (
            ["--split=validation", "--data.validation-fraction=0"],
            "--split validation draws the held-out pairs, but none is held out",
        ),
    ],
)
def test_settings_that_cannot_be_are_told_in_one_sentence(
    source, tmp_path, options, told
):
    with pytest.raises(FusionProxyError, match=told):
        _teach(source, tmp_path / "cache", *options)
    assert not (tmp_path / "cache" / "manifest.json").exists()


def test_outside_a_cluster_distributed_says_what_to_do(source, tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "fusionproxy_jax.cli"),
            *_arguments(source, tmp_path / "cache", "--distributed"),
        ],
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("fusionproxy: --distributed found no cluster")


def _free_port(first, last):
    for port in np.random.default_rng().permutation(np.arange(first, last + 1)):
        with socket.socket() as probe:
            try:
                probe.bind(("localhost", int(port)))
            except OSError:
                continue
            return int(port)
    raise AssertionError("no port is free")


def test_processes_of_a_cluster_share_a_cache_by_jax_distributed(
    source, network, tmp_path
):
    # What SLURM tells two tasks on this machine; JAX takes the coordinator's port from
    # the job's number.
    slurm = {
        "SLURM_JOB_ID": str(_free_port(61440, 65535) - 61440),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
    }
    panel = ("--panel.backbones", network)
    options = ("--accept-failed-gate", "--distributed", *panel)
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "fusionproxy_jax.cli"),
                *_arguments(source, tmp_path / "shared", *options),
            ],
            env=os.environ
            | slurm
            | {"SLURM_PROCID": str(index), "SLURM_LOCALID": str(index)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    for out, err in outputs:
        # Half of the shards each, and both waited for the whole.
        assert "made_up: 24 tiles" in out
        assert "16/16" in err or "8/8" in err
        assert "conv#y: features 8x8x5" in out and "24/24" in err
    _teach(source, tmp_path / "alone", "--accept-failed-gate", *panel)
    shared, alone = (
        {
            path.relative_to(folder): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        for folder in (tmp_path / "shared", tmp_path / "alone")
    )
    assert shared == alone
