"""Our model under google-research/scenic, or under what it needs of it.

Against the real library where FUSIONPROXY_SCENIC names a checkout of it.
"""

import importlib
from itertools import islice

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from scenic_cases import (
    FRACTION,
    NUM_HELD_OUT,
    SIDE,
    STUDENT,
    WEIGHTS,
    apply,
    dataset,
    first_variables,
    model_config,
    panel_of,
    unsharded,
)
from tiny_student import random_params

from fusionproxy_jax.config import (
    StudentConfig,
)
from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.integrations.scenic import (
    fusion_model,
    register_dataset,
)
from fusionproxy_jax.losses.alignment import Alignment
from fusionproxy_jax.losses.routing import routing_weights
from fusionproxy_jax.losses.total import total_loss
from fusionproxy_jax.models.variants import build_student


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
