"""Our adapter under google-research/scenic, or under what it needs of it.

Against the real library where FUSIONPROXY_SCENIC names a checkout of it.
"""

import importlib
import os
import sys
from itertools import islice

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
import scenic_double
from flax import linen as nn
from strided_backbones import tiny_backbone
from tiny_student import random_params

from fusionproxy_jax.config import (
    DDFMConfig,
    PanelConfig,
    StudentConfig,
    TeacherConfig,
)
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.input_pipeline.synthetic import SyntheticPairs
from fusionproxy_jax.integrations.scenic import (
    fusion_model,
    get_dataset,
    register_dataset,
)
from fusionproxy_jax.losses.alignment import Alignment
from fusionproxy_jax.losses.routing import routing_weights
from fusionproxy_jax.losses.total import total_loss
from fusionproxy_jax.models.variants import build_student
from fusionproxy_jax.teachers.cache import build_cache
from fusionproxy_jax.training.panel_features import make_panel_features

SIDE = 32
# Of 9 images 5 are held out.
NUM_IMAGES, NUM_HELD_OUT, FRACTION = 9, 5, 0.55
STUDENT = {
    "stem_width": 4,
    "widths": (4,),
    "depths": (1,),
    "stem_stride": 4,
    "kernel_size": 3,
    "normalization": "affine",
    "activation": "relu",
    "response_norm": False,
}
WEIGHTS = {"pixel_weight": 0.7, "alignment_weight": 0.9, "structure_weight": 0.3}


@pytest.fixture(params=["double", "checkout"])
def scenic(request, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "scenic"]:
        monkeypatch.delitem(sys.modules, name)
    if request.param == "double":
        scenic_double.install(monkeypatch)
        yield
        return
    path = os.environ.get("FUSIONPROXY_SCENIC")
    if not path:
        pytest.skip("FUSIONPROXY_SCENIC names no checkout of google-research/scenic")
    monkeypatch.syspath_prepend(path)
    try:
        importlib.import_module("scenic.dataset_lib.datasets")
    except ModuleNotFoundError as error:
        pytest.skip(f"google-research/scenic needs {error.name}")
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "scenic"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return build_cache(
        SyntheticPairs(NUM_IMAGES, height=SIDE, width=SIDE, seed=0),
        TeacherConfig(
            teachers=("average", "gaussian"),
            num_samples=1,
            ddfm=DDFMConfig(mode="balanced", num_steps=2),
            tile_px=SIDE,
        ),
        tmp_path_factory.mktemp("cache"),
        panel=[tiny_backbone("fine"), tiny_backbone("coarse", stride=8, seed=1)],
        panel_config=PanelConfig(grid=8),
        accept_failed_gate=True,
    )


class Convolution(nn.Module):
    """Stands in for the student where the network does not matter."""

    stride: int = 4

    @nn.compact
    def __call__(self, visible, infrared):
        pair = jnp.concatenate([visible, infrared], axis=-1)
        return visible + nn.Conv(3, (3, 3))(pair)


@pytest.fixture
def tiny_student(monkeypatch):
    monkeypatch.setattr(
        "fusionproxy_jax.integrations.scenic.build_student",
        lambda config, *, dtype: Convolution(),
    )


def model_config(**changes):
    return ml_collections.ConfigDict({"model": {"student": STUDENT}, **changes})


def dataset(taught, *, batch_size=4, eval_batch_size=6, num_shards=2, **settings):
    configs = {"cache": str(taught.directory), "validation_fraction": FRACTION}
    return get_dataset(
        batch_size=batch_size,
        eval_batch_size=eval_batch_size,
        num_shards=num_shards,
        dataset_configs=ml_collections.ConfigDict(configs | settings),
    )


def apply(model, variables, pairs):
    """Fuses as scenic's trainers do in an evaluation."""
    return model.flax_model.apply(
        variables, pairs, train=False, mutable=False, debug=False
    )


def panel_of(cache):
    known = {entry.name: entry for entry in cache.panel}
    backbones = [tiny_backbone("coarse", stride=8, seed=1), tiny_backbone("fine")]
    return make_panel_features(
        backbones,
        [known[backbone.name].scale for backbone in backbones],
        [known[backbone.name].mean_variance for backbone in backbones],
    )


def first_variables(model, side=SIDE):
    """As scenic's trainers make them."""
    pairs = jnp.zeros((2, side, side, 4))
    keys = {"params": jax.random.key(0)}
    return model.flax_model.init(keys, pairs, train=False, debug=False)


def unsharded(batch):
    return {
        key: jnp.asarray(array.reshape(-1, *array.shape[2:]))
        for key, array in batch.items()
    }


def test_the_network_is_our_student_on_stacked_pairs(scenic):
    model = fusion_model()(model_config(), {"input_shape": (-1, SIDE, SIDE, 4)})
    student = build_student(StudentConfig(**STUDENT))
    variables = {"params": random_params(StudentConfig(**STUDENT))}
    first = jax.eval_shape(lambda: first_variables(model))
    assert jax.tree.map(jnp.shape, first) == jax.tree.map(jnp.shape, variables)

    visible = jax.random.uniform(jax.random.key(1), (2, SIDE, SIDE, 3))
    infrared = jax.random.uniform(jax.random.key(2), (2, SIDE, SIDE, 1))

    @jax.jit
    def fuse(variables, pairs):
        return model.flax_model.apply(
            variables,
            pairs,
            mutable=["batch_stats"],
            train=True,
            rngs={"dropout": jax.random.key(3)},
            debug=False,
        )

    fused, changed = fuse(variables, jnp.concatenate([visible, infrared], axis=-1))
    expected = jax.jit(student.apply)(variables, visible, infrared)
    np.testing.assert_allclose(fused, expected, atol=1e-6)
    assert not changed


def test_the_default_settings_are_student_base_and_the_papers_weights(scenic):
    model = fusion_model()(None, {})
    assert model.flax_model.student == build_student(StudentConfig())
    assert model.config.loss.alignment_weight == 0.5
    assert model.loss.structure_weight == 0.2


def test_the_loss_is_eq_12(scenic, cache):
    batch = unsharded(next(dataset(cache, panel=("fine", "coarse")).train_iter))
    panel = panel_of(cache)
    fused = jax.random.uniform(jax.random.key(0), (4, SIDE, SIDE, 3))
    statistics = batch["ensemble_mean"], batch["ensemble_variance"]
    config = model_config(loss={**WEIGHTS, "routing_temperature": 0.3})

    model = fusion_model()(config, {})
    expected, _ = jax.jit(total_loss)(fused, *statistics, **WEIGHTS)
    np.testing.assert_allclose(
        jax.jit(model.loss_function)(fused, batch), np.mean(expected), rtol=1e-5
    )

    names = ("coarse", "fine")
    variances = [batch[f"feature_variance/{name}"] for name in names]
    alignment = Alignment(
        features=panel.extract(panel.frozen, fused),
        target=tuple(batch[f"feature_target/{name}"] for name in names),
        weights=routing_weights(
            jnp.stack(variances, axis=1),
            jnp.asarray(panel.mean_variance),
            temperature=0.3,
        ),
    )
    aligned = fusion_model(panel)(config, {})
    expected, terms = jax.jit(total_loss)(fused, *statistics, alignment, **WEIGHTS)
    np.testing.assert_allclose(
        jax.jit(aligned.loss_function)(fused, batch, None), np.mean(expected), rtol=1e-5
    )
    metrics = jax.jit(aligned.get_metrics_fn_jit())(fused, batch)
    assert metrics.keys() == {"loss", *(f"{name}_loss" for name in terms)}
    for name, values in terms.items():
        total, count = metrics[f"{name}_loss"]
        np.testing.assert_allclose(total, np.sum(values), rtol=1e-5)
        assert count == 4


def test_padding_counts_nothing_in_loss_and_metrics(scenic, cache):
    model = fusion_model()(model_config(), {})
    batch = unsharded(next(dataset(cache).train_iter))
    fused = jax.random.uniform(jax.random.key(0), (4, SIDE, SIDE, 3))
    short = {key: array[:3] for key, array in batch.items()}
    padded = {**batch, "batch_mask": jnp.array([1.0, 1.0, 1.0, 0.0])}
    broken = fused.at[3].set(jnp.nan)
    loss = jax.jit(model.loss_function)
    metrics = jax.jit(model.get_metrics_fn_jit())
    np.testing.assert_allclose(loss(broken, padded), loss(fused[:3], short), rtol=1e-6)
    wanted, found = metrics(fused[:3], short), metrics(broken, padded)
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6)
    only_padding = {**padded, "batch_mask": jnp.zeros(4)}
    assert loss(fused, only_padding) == 0
    del batch["batch_mask"]
    assert metrics(fused, batch)["loss"][1] == 4


def test_metrics_of_an_uneven_evaluation_are_means_over_its_tiles(
    scenic, cache, tiny_student
):
    # On two devices, in batches of 4: the second batch is one tile and padding only on
    # the second device.
    uneven = dataset(cache, eval_batch_size=4, panel=("fine", "coarse"))
    model = fusion_model(panel_of(cache))(model_config(), uneven.meta_data)
    variables = first_variables(model)

    def evaluate(batch):
        fused = apply(model, variables, batch["inputs"])
        return model.get_metrics_fn("validation")(fused, batch)

    step = jax.pmap(evaluate, axis_name="batch")
    first, second = [step(batch) for batch in islice(uneven.valid_iter, 2)]

    whole = dataset(cache, eval_batch_size=5, num_shards=1, panel=("fine", "coarse"))

    @jax.jit
    def evaluate_whole(batch):
        fused = apply(model, variables, batch["inputs"])
        return model.get_metrics_fn_jit("validation")(fused, batch)

    expected = evaluate_whole(unsharded(next(whole.valid_iter)))
    for name, (total, count) in expected.items():
        assert count == NUM_HELD_OUT == uneven.meta_data["num_eval_examples"]
        sums, counts = (first[name][part] + second[name][part] for part in (0, 1))
        # Every device has the sum over all of them.
        np.testing.assert_array_equal(counts, [NUM_HELD_OUT] * 2)
        np.testing.assert_allclose(sums, [total] * 2, rtol=1e-4)


def test_a_trainer_of_theirs_lowers_the_loss_on_two_devices(
    scenic, cache, tiny_student
):
    register_dataset()
    datasets = importlib.import_module("scenic.dataset_lib.datasets")
    found = datasets.get_dataset("fusionproxy")(
        batch_size=4,
        eval_batch_size=4,
        num_shards=2,
        dtype_str="float32",
        rng=jax.random.key(5),
        shuffle_seed=None,
        dataset_configs=ml_collections.ConfigDict(
            {
                "cache": str(cache.directory),
                "validation_fraction": FRACTION,
                "crop_px": 16,
            }
        ),
        dataset_service_address=None,
    )
    model = fusion_model()(model_config(), found.meta_data)
    variables = first_variables(model, side=16)

    def train_step(params, batch):
        def loss(params):
            fused, _ = model.flax_model.apply(
                {"params": params},
                batch["inputs"],
                mutable=["batch_stats"],
                train=True,
                rngs={"dropout": jax.random.key(0)},
                debug=False,
            )
            return model.loss_function(fused, batch, params), fused

        (_, fused), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        gradient = jax.lax.pmean(gradient, axis_name="batch")
        moved = jax.tree.map(lambda p, g: p - 0.05 * g, params, gradient)
        return moved, model.get_metrics_fn("train")(fused, batch)

    step = jax.pmap(
        train_step, axis_name="batch", in_axes=(None, 0), out_axes=(None, 0)
    )
    params, losses = variables["params"], []
    batch = next(found.train_iter)
    for _ in range(8):
        params, metrics = step(params, batch)
        total, count = (values[0] for values in metrics["loss"])
        losses.append(total / count)
    assert losses[-1] < 0.9 * losses[0]


def test_batches_are_as_their_table_says(scenic, cache):
    found = dataset(cache, panel=("fine",))
    train, held_out = next(found.train_iter), next(found.valid_iter)
    assert {key: array.shape for key, array in train.items()} == {
        "inputs": (2, 2, SIDE, SIDE, 4),
        "batch_mask": (2, 2),
        "ensemble_mean": (2, 2, SIDE, SIDE, 3),
        "ensemble_variance": (2, 2, SIDE, SIDE),
        "feature_target/fine": (2, 2, 8, 8, 3),
        "feature_variance/fine": (2, 2, 8, 8),
    }
    assert all(array.dtype == np.float32 for array in train.values())
    assert np.all(train["batch_mask"] == 1)
    assert train.keys() == held_out.keys()
    np.testing.assert_array_equal(held_out["batch_mask"], [[1, 1, 1], [1, 1, 0]])
    assert not np.any(held_out["inputs"][1, 2:])
    assert found.meta_data["input_shape"] == (-1, SIDE, SIDE, 4)
    assert found.meta_data["num_train_examples"] == NUM_IMAGES - NUM_HELD_OUT
    assert found.test_iter is None


def _seen(batches):
    """Which tiles whole batches show: visible and infrared bytes of each."""
    return [
        image.tobytes()
        for batch in map(unsharded, batches)
        for image, mask in zip(
            np.asarray(batch["inputs"]), np.asarray(batch["batch_mask"]), strict=True
        )
        if mask
    ]


def test_a_pass_shows_every_held_out_tile_once_and_none_that_trains(scenic, cache):
    found = dataset(cache, eval_batch_size=3, num_shards=1, flip=False)
    once, again = (_seen(islice(found.valid_iter, 2)) for _ in range(2))
    assert len(once) == len(set(once)) == NUM_HELD_OUT
    assert once == again
    trained = set(_seen(islice(found.train_iter, 5)))
    assert len(trained) == NUM_IMAGES - NUM_HELD_OUT
    assert not trained & set(once)


def test_crops_of_a_pass_are_those_of_the_next(scenic, cache):
    found = dataset(cache, eval_batch_size=2, num_shards=1, crop_px=16)
    once, again = (_seen(islice(found.valid_iter, 3)) for _ in range(2))
    assert once == again
    assert next(found.train_iter)["inputs"].shape == (1, 4, 16, 16, 4)


@pytest.mark.parametrize(
    ("num_processes", "fraction", "num_held_out"),
    [(2, FRACTION, NUM_HELD_OUT), (4, FRACTION, NUM_HELD_OUT), (3, 0.1, 1)],
)
def test_processes_take_equally_many_batches_and_share_the_tiles(
    num_processes, fraction, num_held_out, scenic, cache, monkeypatch
):
    monkeypatch.setattr(jax, "process_count", lambda: num_processes)
    shown = []
    for process in range(num_processes):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        found = dataset(
            cache,
            batch_size=1,
            eval_batch_size=1,
            num_shards=1,
            validation_fraction=fraction,
        )
        steps = -(-num_held_out // num_processes)
        first, second = (_seen(islice(found.valid_iter, steps)) for _ in range(2))
        assert first == second
        shown += first
        assert len(_seen(islice(found.train_iter, 3))) == 3
    assert len(shown) == len(set(shown)) == num_held_out


def test_a_second_cache_may_be_the_evaluation(scenic, cache):
    found = dataset(cache, eval_cache=str(cache.directory))
    assert found.meta_data["num_train_examples"] == NUM_IMAGES
    assert found.meta_data["num_eval_examples"] == NUM_IMAGES


def test_inputs_have_the_dtype_of_the_data_and_targets_float32(scenic, cache):
    found = get_dataset(
        batch_size=2,
        eval_batch_size=2,
        num_shards=1,
        dtype_str="bfloat16",
        dataset_configs={"cache": cache.directory, "validation_fraction": FRACTION},
    )
    batch = next(found.valid_iter)
    assert batch["inputs"].dtype == found.meta_data["input_dtype"] == jnp.bfloat16
    assert batch["ensemble_mean"].dtype == np.float32


def test_order_follows_the_seed_or_else_the_key(scenic, cache):
    def first(**options):
        found = get_dataset(
            batch_size=4,
            eval_batch_size=4,
            num_shards=1,
            dataset_configs={"cache": cache.directory, "validation_fraction": FRACTION},
            **options,
        )
        return _seen(islice(found.train_iter, 4))

    keys = [jax.random.key(number) for number in (0, 1)]
    assert first(shuffle_seed=1, rng=keys[0]) == first(shuffle_seed=1, rng=keys[1])
    assert first(shuffle_seed=1) != first(shuffle_seed=2)
    by_key = [first(shuffle_seed=None, rng=key) for key in keys]
    assert by_key[0] != by_key[1]


def test_registering_twice_changes_nothing(scenic):
    register_dataset("fusion_twice")
    datasets = importlib.import_module("scenic.dataset_lib.datasets")
    builder = datasets.get_dataset("fusion_twice")
    register_dataset("fusion_twice")
    assert datasets.get_dataset("fusion_twice") is builder


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cache": None}, "names no cache; it takes cache, eval_cache"),
        ({"crop": 16}, "has crop; it takes cache"),
        ({"batch_size": 3}, "^batch_size is 3 .* multiple of its 2 devices"),
        ({"eval_batch_size": 5}, "^eval_batch_size is 5"),
        ({"validation_fraction": 0.0}, "is 0.0, which leaves none of the 9 images"),
        ({"panel": ("vgg16",)}, "has no features of 'vgg16'"),
        ({"crop_px": 48}, "crop_px is 48"),
    ],
)
def test_bad_data_settings_are_one_sentence(changes, words, scenic, cache):
    with pytest.raises(FusionProxyError, match=words):
        next(dataset(cache, **changes).train_iter)


def test_a_data_service_is_refused(scenic):
    with pytest.raises(FusionProxyError, match="'grpc://here'; every process reads"):
        get_dataset(
            batch_size=1,
            eval_batch_size=1,
            num_shards=1,
            dataset_configs={"cache": "cache"},
            dataset_service_address="grpc://here",
        )


@pytest.mark.parametrize(
    ("config", "side", "words"),
    [
        ({"model": {"student": "huge"}}, SIDE, "no student 'huge'"),
        ({"model": {"student": {"depth": 3}}}, SIDE, "model.student has .*depth"),
        ({"loss": {"routing": "learned"}}, SIDE, "loss has routing; .* fusion_model"),
        ({"loss": {"pixel_weight": -1.0}}, SIDE, "loss.pixel_weight is -1.0"),
        ({}, 36, "crop_px is 36; this student needs a multiple of 16"),
    ],
)
def test_bad_model_settings_are_one_sentence(config, side, words, scenic):
    with pytest.raises(FusionProxyError, match=words):
        fusion_model()(
            ml_collections.ConfigDict(config), {"input_shape": (-1, side, side, 4)}
        )


def test_a_panel_whose_features_the_batches_lack_is_one_sentence(scenic, cache):
    batch = unsharded(next(dataset(cache).train_iter))
    model = fusion_model(panel_of(cache))(model_config(), {})
    with pytest.raises(FusionProxyError, match="no features of coarse, fine; name"):
        model.loss_function(batch["ensemble_mean"], batch)


def test_without_scenic_the_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "scenic", None)
    with pytest.raises(FusionProxyError, match="^google-research/scenic .* with git"):
        fusion_model()
    with pytest.raises(FusionProxyError, match="not on PyPI"):
        register_dataset()


def _forget_scenic(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "scenic"]:
        monkeypatch.delitem(sys.modules, name)


def test_the_namesake_from_pypi_is_told_apart_without_importing_it(
    tmp_path, monkeypatch
):
    (tmp_path / "scenic/core").mkdir(parents=True)
    (tmp_path / "scenic/__init__.py").write_text("raise RuntimeError('imported')")
    _forget_scenic(monkeypatch)
    monkeypatch.syspath_prepend(tmp_path)
    for ask in (fusion_model, register_dataset):
        with pytest.raises(FusionProxyError, match="scenario language.*cannot share"):
            ask()


def test_a_package_that_scenic_needs_is_named(tmp_path, monkeypatch):
    for folder in ("", "model_lib/", "model_lib/base_models/"):
        (tmp_path / "scenic" / folder).mkdir()
        (tmp_path / "scenic" / folder / "__init__.py").touch()
    module = tmp_path / "scenic/model_lib/base_models/base_model.py"
    module.write_text("import no_such_framework")
    _forget_scenic(monkeypatch)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FusionProxyError, match="needs the package 'no_such_framework'"):
        fusion_model()
    _forget_scenic(monkeypatch)
