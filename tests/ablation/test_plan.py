"""What the rows of Table 4 are, and which of them are one run."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest
from ablation_setup import BASE

from fusionproxy_jax.ablation.plan import cache_name, plan_rows, require_rows
from fusionproxy_jax.ablation.rows import TABLE_4, lone_backbone
from fusionproxy_jax.config import LossConfig, TeacherConfig
from fusionproxy_jax.config.identity import differences, flat_settings
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.losses.pixel import pixel_weights
from fusionproxy_jax.losses.routing import routing_weights
from fusionproxy_jax.models.variants import STUDENTS
from fusionproxy_jax.sweeps.programs import programs_of

PAPER = dataclasses.replace(
    BASE,
    teacher=TeacherConfig(teachers=("ddfm", "mask_difuser"), num_samples=4),
    student=STUDENTS["base"],
)
NAMES = ("one", "two")


@pytest.fixture(scope="module")
def planned():
    return plan_rows(PAPER, TABLE_4, NAMES)


def _changed(config):
    """Dotted name -> value of what differs from the default."""
    old, new = (flat_settings(dataclasses.asdict(one)) for one in (PAPER, config))
    return {name: new[name] for name in new if new[name] != old[name]}


@pytest.mark.parametrize(
    ("letter", "changed"),
    [
        (
            "a",
            {"teacher.teachers": ("mask_difuser",), "teacher.num_samples": 1},
        ),
        ("b", {"teacher.teachers": ("mask_difuser",)}),
        ("c", {}),
        ("d", {"loss.routing": "single:one"}),
        ("e", {"loss.routing_temperature": math.inf}),
        ("f", {"loss.routing": "learned"}),
        ("g", {"loss.epsilon": 1e9}),
        ("h", {}),
        ("l", {}),
        ("m", {"teacher.num_samples": 2}),
        ("n", {"teacher.teachers": ("ddfm", "average")}),
        ("o", {"teacher.variance": "within"}),
        ("p", {"panel.target": "features_of_mean"}),
    ],
)
def test_a_row_varies_what_its_name_says_and_nothing_else(planned, letter, changed):
    assert _changed(planned[letter].config) == changed


@pytest.mark.parametrize(
    ("letter", "student"),
    [("i", "ultra_light"), ("j", "efficientformer_v2"), ("k", "mobilenet_v4")],
)
def test_rows_i_to_k_are_other_students(planned, letter, student):
    config = planned[letter].config
    assert config.student == STUDENTS[student]
    assert dataclasses.replace(config, student=PAPER.student) == PAPER


def test_the_default_is_one_run_for_three_rows(planned):
    runs = [planned[letter].member for letter in "chl"]
    assert runs == ["c", "c", "c"]
    others = [row.member for letter, row in planned.items() if letter not in "hl"]
    assert others == [letter for letter in planned if letter not in "hl"]


def test_default_uniform_and_unweighted_rows_are_one_program(planned):
    configs = {row.member: row.config for row in planned.values()}
    programs = [list(program.members) for program in programs_of(configs)]
    assert ["c", "e", "g"] in programs
    assert len(programs) == len(configs) - 2


def test_titles_name_the_teachers_samples_and_backbone_of_the_default(planned):
    titles = {letter: row.title for letter, row in planned.items()}
    assert titles["b"] == "single teacher (mask_difuser), N=4"
    assert titles["c"] == "dual teacher (mask_difuser + ddfm), N=4 each"
    assert titles["d"] == "one backbone only (one)"
    assert titles["m"] == "dual teacher, N=2 each"
    assert titles["n"] == "ddfm and the plain average as second teacher"
    assert not any("{" in title for title in titles.values())


def test_caches_are_shared_by_rows_of_one_ensemble_and_target(planned):
    caches = {}
    for letter, row in planned.items():
        caches.setdefault(row.cache, []).append(letter)
    assert caches == {
        "mask_difuser_1": ["a"],
        "mask_difuser_4": ["b"],
        "ddfm+mask_difuser_4": [*"cdefghijkl"],
        "ddfm+mask_difuser_2": ["m"],
        "ddfm+average_4": ["n"],
        "ddfm+mask_difuser_4_within": ["o"],
        "ddfm+mask_difuser_4_features_of_mean": ["p"],
    }
    assert cache_name(PAPER.teacher, PAPER.panel) == "ddfm+mask_difuser_4"


def test_the_papers_vgg_stands_alone_where_it_is_in_the_panel():
    assert lone_backbone(["dinov2", "vgg16"]) == "vgg16"
    assert lone_backbone(["dinov2", "clip"]) == "dinov2"


def test_row_g_has_exactly_uniform_pixel_weights(planned):
    variance = jnp.asarray(np.random.default_rng(0).uniform(0, 0.25, (2, 9, 7)))
    epsilon = planned["g"].config.loss.epsilon
    weights = pixel_weights(variance.astype(jnp.float32), epsilon=epsilon)
    assert np.ptp(weights) == 0
    np.testing.assert_allclose(weights.sum((1, 2)), 1, rtol=1e-5)


def test_row_e_has_exactly_uniform_routing(planned):
    variance = jnp.asarray(np.random.default_rng(0).uniform(0, 9, (2, 3, 4, 5)))
    temperature = planned["e"].config.loss.routing_temperature
    weights = routing_weights(
        variance.astype(jnp.float32), jnp.ones(3), temperature=temperature
    )
    assert np.ptp(weights) == 0


def test_an_annealed_default_gives_rows_that_can_be():
    loss = LossConfig(routing_temperature=10.0, routing_temperature_end=0.1)
    annealed = dataclasses.replace(PAPER, loss=loss)
    planned = plan_rows(annealed, TABLE_4, NAMES)
    for letter in "def":
        assert planned[letter].config.loss.routing_temperature_end is None


def test_without_a_panel_rows_that_vary_it_are_refused():
    planned = plan_rows(PAPER, TABLE_4, ())
    assert "".join(planned) == "abcgijklmno"
    require_rows(("a", "c"), TABLE_4, planned)
    told = "rows d, p vary the alignment to a panel, and there is none: name backbones"
    with pytest.raises(FusionProxyError, match=told):
        require_rows(("c", "d", "p"), TABLE_4, planned)


def test_other_students_cannot_start_from_weights_of_the_default():
    started = dataclasses.replace(PAPER, start_from="base")
    planned = plan_rows(started, TABLE_4, NAMES)
    require_rows(("c", "e"), TABLE_4, planned)
    with pytest.raises(FusionProxyError, match="rows j have other students than base"):
        require_rows(("c", "j"), TABLE_4, planned)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"teacher": TeacherConfig(teachers=("ddfm",))}, "has the teachers ddfm with"),
        (
            {"teacher": dataclasses.replace(PAPER.teacher, num_samples=1)},
            "teacher.num_samples 1; Table 4 takes away from two teachers",
        ),
        ({"loss": LossConfig(routing="learned")}, "has loss.routing learned; in Table"),
    ],
)
def test_a_default_that_rows_cannot_vary_is_refused(change, told):
    with pytest.raises(FusionProxyError, match=told):
        plan_rows(dataclasses.replace(PAPER, **change), TABLE_4, NAMES)


@pytest.mark.parametrize(
    ("teachers", "row_n"),
    [
        (("gaussian", "average"), ("gaussian", "average")),
        (("average", "gaussian"), ("gaussian", "average")),
        (("mask_difuser", "ddfm"), ("ddfm", "average")),
        (("gaussian", "ddfm"), ("gaussian", "average")),
    ],
)
def test_row_n_keeps_a_teacher_with_an_opinion(teachers, row_n):
    teacher = dataclasses.replace(PAPER.teacher, teachers=teachers)
    planned = plan_rows(dataclasses.replace(PAPER, teacher=teacher), TABLE_4, NAMES)
    assert planned["n"].config.teacher.teachers == row_n
    # Where the default is that ensemble already, it is one run.
    assert (planned["n"].member == "c") == (teachers == row_n)


def test_differences_of_rows_are_readable(planned):
    one, other = (dataclasses.asdict(planned[letter].config) for letter in "ce")
    assert differences(one, other) == [
        "loss.routing_temperature was 1.0 and is now inf"
    ]
