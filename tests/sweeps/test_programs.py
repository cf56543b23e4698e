import dataclasses
import itertools

import pytest

from fusionproxy_jax.config import Config, LossConfig, OptimizerConfig
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.sweeps.programs import Program, programs_of, share_of


def members(num_steps=(4,), seeds=range(3)):
    return {
        f"{steps}-{seed}": Config(num_steps=steps, seed=seed)
        for seed in seeds
        for steps in num_steps
    }


def test_numbers_that_a_step_takes_as_arrays_share_a_program():
    one = Config()
    alike = {
        "one": one,
        "two": dataclasses.replace(one, seed=7),
        "three": dataclasses.replace(one, loss=LossConfig(routing_temperature=0.1)),
        "four": dataclasses.replace(one, optimizer=OptimizerConfig(learning_rate=1.0)),
    }
    assert [list(program.members) for program in programs_of(alike)] == [list(alike)]


def test_what_changes_the_compiled_step_needs_a_program_of_its_own():
    one = Config()
    apart = {
        "one": one,
        "steps": dataclasses.replace(one, num_steps=3),
        "unaligned": dataclasses.replace(one, loss=LossConfig(alignment_weight=0.0)),
        "annealed": dataclasses.replace(
            one, loss=LossConfig(routing_temperature_end=0.1)
        ),
    }
    assert len(programs_of(apart)) == 4


def test_the_id_changes_with_names_and_settings_only():
    ids = {
        Program(members()).id,
        Program(members(num_steps=(5,))).id,
        Program(members(seeds=range(2))).id,
        Program({f"x{name}": one for name, one in members().items()}).id,
    }
    assert len(ids) == 4
    assert all(len(one) == 16 and int(one, 16) >= 0 for one in ids)
    assert Program(members()).id == Program(members()).id


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 20])
def test_every_member_is_in_one_task_and_tasks_are_alike_in_size(count):
    everyone = members(num_steps=(4, 5), seeds=range(4))
    shares = [share_of(everyone, index, count) for index in range(count)]
    names = list(itertools.chain.from_iterable(shares))
    assert sorted(names) == sorted(everyone)
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    # Each cut divides at most one program.
    num_programs = sum(len(programs_of(share)) for share in shares if share)
    assert num_programs <= 2 + min(count, 8) - 1


def test_a_program_stays_whole_where_tasks_allow():
    everyone = members(num_steps=(4, 5), seeds=range(3))
    for index, steps in ((0, 4), (1, 5)):
        share = share_of(everyone, index, 2)
        assert [config.num_steps for config in share.values()] == [steps] * 3


def test_without_an_array_everyone_is_there_in_order():
    assert list(share_of(members(), None, None)) == list(members())


@pytest.mark.parametrize(
    ("index", "count", "sentence"),
    [
        (0, None, "give both or none"),
        (None, 2, "give both or none"),
        (2, 2, "--index is 2 of --count 2; tasks are numbered from 0"),
        (-1, 2, "--index is -1"),
        (0, 0, "--count 0"),
    ],
)
def test_a_task_that_is_none_is_refused(index, count, sentence):
    with pytest.raises(FusionProxyError, match=sentence):
        share_of(members(), index, count)
