import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_training import TinyCache, metric_rows, tiny_config

from fusionproxy_jax.config import LossConfig, OptimizerConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.training.build import build_parts, build_training
from fusionproxy_jax.training.checkpoint import Checkpoints, load_student
from fusionproxy_jax.training.knobs import stack_knobs
from fusionproxy_jax.training.loop import train
from fusionproxy_jax.training.population import train_population
from fusionproxy_jax.training.population_step import Member, populate
from fusionproxy_jax.training.state import new_state, new_states

SGD = OptimizerConfig(method="sgd", learning_rate=3e-3, warmup_steps=2)


def member(*, seed=0, optimizer=SGD, **loss):
    return tiny_config(
        seed=seed, optimizer=optimizer, loss=LossConfig(**loss), num_steps=6
    )


MEMBERS = {
    "plain": member(),
    "other-seed": member(seed=5),
    "structure": member(structure_weight=2.0, epsilon=0.1),
    "slow": member(optimizer=dataclasses.replace(SGD, learning_rate=1e-3)),
    "absurd": member(optimizer=dataclasses.replace(SGD, learning_rate=1e30)),
}


def folders(root, members=MEMBERS):
    return {name: root / "members" / name for name in members}


def final_state(folder):
    return Checkpoints(folder).restore_arrays()


def assert_close(ours, theirs, atol):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=atol, rtol=1e-5),
        ours,
        theirs,
    )


@pytest.fixture(scope="module", params=[1, 2, 5])
def trained(request, tmp_path_factory):
    from unittest import mock

    from tiny_training import build_tiny

    from fusionproxy_jax.training import build

    root, seen = tmp_path_factory.mktemp("population"), []
    with mock.patch.object(build, "build_student", build_tiny):
        result = train_population(
            MEMBERS,
            TinyCache(),
            root / "program",
            folders(root),
            members_at_once=request.param,
            progress=seen.append,
        )
    return root, result, seen


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    from unittest import mock

    from tiny_training import build_tiny

    from fusionproxy_jax.training import build

    root = tmp_path_factory.mktemp("alone")
    with mock.patch.object(build, "build_student", build_tiny):
        for name, config in MEMBERS.items():
            if name != "absurd":
                train(config, TinyCache(), root / name)
    return root


@pytest.mark.parametrize("name", [name for name in MEMBERS if name != "absurd"])
def test_every_member_is_as_if_it_were_alone(name, trained, alone):
    root, result, _ = trained
    ours, theirs = final_state(root / "members" / name), final_state(alone / name)
    assert ours["step"] == theirs["step"] == 6
    assert_close(ours["params"], theirs["params"], 1e-6)
    assert_close(ours["ema_params"], theirs["ema_params"], 1e-6)
    for row, other in zip(
        metric_rows(root / "members" / name), metric_rows(alone / name), strict=True
    ):
        assert row.keys() == other.keys() and row["step"] == other["step"]
        np.testing.assert_allclose(row["loss"], other["loss"], rtol=1e-4)
    assert result.died_at[name] is None


def test_members_differ_from_each_other(trained):
    root, _, _ = trained
    kernels = [
        final_state(root / "members" / name)["params"]["Conv_1"]["kernel"]
        for name in MEMBERS
    ]
    for number, kernel in enumerate(kernels):
        for other in kernels[:number]:
            assert np.abs(kernel - other).max() > 1e-6


def test_a_member_that_is_no_longer_finite_is_dead_and_keeps_what_it_had(trained):
    root, result, seen = trained
    died_at = result.died_at["absurd"]
    assert 1 <= died_at <= 5
    assert [name for name, step in result.died_at.items() if step] == ["absurd"]
    rows = metric_rows(root / "members/absurd")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows if row["loss"] is None] == list(
        range(died_at, 7)
    )
    state = final_state(root / "members/absurd")
    assert state["step"] == died_at - 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    assert np.isnan(seen[-1].metrics["absurd"]["loss"])
    assert np.isfinite(seen[-1].metrics["plain"]["loss"])
    assert seen[-1].died_at["absurd"] == died_at


def test_a_member_can_be_exported_as_any_run(trained):
    root, _, _ = trained
    config, params, meta = load_student(root / "members/structure")
    assert config == MEMBERS["structure"].student
    assert meta["config"]["loss"]["structure_weight"] == 2.0
    assert meta["step"] == 6 and "Conv_0" in params
    assert (root / "members/structure/config.json").is_file()


def test_a_stopped_population_goes_on_bit_for_bit(tmp_path, tiny_student, monkeypatch):
    from fusionproxy_jax.training import population_run as module

    class Stop:
        """Asks to stop after `at` steps."""

        signal_number = None

        def __init__(self, at):
            self.at = at

        def reached(self, checkpoints, step):
            if step >= self.at:
                self.signal_number = 15
            return step >= self.at

    def run(root, at):
        import contextlib

        monkeypatch.setattr(
            module, "stop_requests", lambda: contextlib.nullcontext(Stop(at))
        )
        return train_population(MEMBERS, TinyCache(), root / "p", folders(root))

    whole = run(tmp_path / "whole", 100)
    assert (whole.step, whole.signal_number) == (6, None)
    parts = [run(tmp_path / "parts", at) for at in (2, 4, 100)]
    assert [part.step for part in parts] == [2, 4, 6]
    assert parts[0].signal_number == 15 and parts[-1].died_at == whole.died_at
    for name in MEMBERS:
        ours, theirs = (
            final_state(tmp_path / way / "members" / name) for way in ("parts", "whole")
        )
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)
        for row, other in zip(
            *(
                metric_rows(tmp_path / way / "members" / name)
                for way in ("parts", "whole")
            ),
            strict=True,
        ):
            assert row["loss"] == other["loss"]


def test_members_of_other_programs_are_refused(tmp_path, tiny_student):
    members = {"a": member(), "b": dataclasses.replace(member(), num_steps=7)}
    with pytest.raises(FusionProxyError, match="num_steps is 6 in a and 7 in b"):
        train_population(members, TinyCache(), tmp_path, folders(tmp_path, members))
    members = {"a": member(), "b": member(alignment_weight=0.0)}
    with pytest.raises(FusionProxyError, match="alignment_weight > 0 is True in a"):
        train_population(members, TinyCache(), tmp_path, folders(tmp_path, members))


def test_other_members_in_the_folder_are_refused(tmp_path, tiny_student):
    members = {"a": member()}
    train_population(members, TinyCache(), tmp_path / "p", folders(tmp_path, members))
    members = {"a": member(seed=3)}
    with pytest.raises(FusionProxyError, match="a.seed was 0 and is now 3"):
        train_population(
            members, TinyCache(), tmp_path / "p", folders(tmp_path, members)
        )


def compiled_text(num_devices, num_members, members_at_once):
    members = {f"m{seed}": member(seed=seed) for seed in range(num_members)}
    parts = build_parts(member())
    keys = jax.random.split(jax.random.key(0), num_members)
    population = populate(
        parts.make_step,
        stack_knobs(members),
        keys,
        members_at_once=members_at_once,
        devices=jax.local_devices()[:num_devices],
    )
    states = new_states(parts.init_params, parts.optimizer, keys)
    everyone = population.place(Member(states, jnp.zeros(num_members, jnp.int32)))
    batch = population.place_batch(next_batch())
    return population.lower(everyone, batch).compile().as_text()


def next_batch():
    from tiny_training import tiny_batch

    return tiny_batch()


@pytest.mark.parametrize("members_at_once", [1, 4])
def test_devices_never_speak_to_each_other(members_at_once, tiny_student):
    assert len(jax.local_devices()) == 2
    text = compiled_text(2, 4, members_at_once)
    # Both devices are there.
    assert "num_partitions=2" in text
    assert not spoken_words(text)


def spoken_words(text):
    """Operations of a compiled program by which devices speak to each other."""
    words = "all-reduce|all-gather|reduce-scatter|all-to-all|collective|send|recv"
    # Names of results begin with %, and only operations are followed by operands.
    return re.findall(rf" ({words})[\w-]*\(", text)


def test_words_between_devices_would_be_noticed(tiny_student):
    training = build_training(tiny_config(parallel="jit"))
    state = training.parallel.replicate(
        new_state(
            training.parts.init_params, training.parts.optimizer, jax.random.key(0)
        )
    )
    batch = training.parallel.shard_batch(next_batch())
    lowered = training.parallel.lower(state, batch, jax.random.key(0))
    assert "all-reduce" in spoken_words(lowered.compile().as_text())


def test_two_processes_train_one_population(tmp_path):
    from test_topologies import finish, free_port

    script, port = Path(__file__).parent / "run_population.py", free_port()
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
    }
    for folder, count in (("two", 2), ("one", 1)):
        finish(
            *(
                subprocess.Popen(
                    [
                        *(sys.executable, str(script), str(tmp_path / folder)),
                        *map(str, (port if count > 1 else 0, index, count)),
                    ],
                    env=environment,
                    stderr=subprocess.PIPE,
                    text=True,
                )
                for index in range(count)
            )
        )
    for name in MEMBERS:
        ours, theirs = (
            final_state(tmp_path / folder / "members" / name)
            for folder in ("two", "one")
        )
        assert_close(ours["params"], theirs["params"], 1e-6)
