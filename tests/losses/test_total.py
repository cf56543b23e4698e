import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fusionproxy_jax.losses import total
from fusionproxy_jax.losses.alignment import Alignment, alignment_loss
from fusionproxy_jax.losses.routing_variants import learned_routing, variance_routing

CHANNELS = (3, 5)
GRIDS = ((4, 6), (2, 3))

total_loss = jax.jit(total.total_loss, static_argnames="alignment_norm")


def random_batch(batch=2, height=12, width=15, grid=(4, 6)):
    generator = np.random.default_rng(0)

    def random(*shape):
        return jnp.asarray(generator.random(shape, np.float32))

    features, target = (
        tuple(
            random(batch, *size, channels)
            for size, channels in zip(GRIDS, CHANNELS, strict=True)
        )
        for _ in range(2)
    )
    weights = random(batch, 2, *grid)
    return (
        random(batch, height, width, 3),
        random(batch, height, width, 3),
        0.01 * random(batch, height, width),
        Alignment(features, target, weights / weights.sum(axis=1, keepdims=True)),
    )


def test_the_loss_is_the_weighted_sum_of_its_terms():
    loss, terms = total_loss(
        *random_batch(), pixel_weight=2.0, alignment_weight=0.3, structure_weight=0.7
    )
    assert set(terms) == {"pixel", "alignment", "structure"}
    expected = 2 * terms["pixel"] + 0.3 * terms["alignment"] + 0.7 * terms["structure"]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert loss.shape == (2,)


def test_the_default_weights_are_the_papers():
    loss, terms = total_loss(*random_batch())
    expected = terms["pixel"] + 0.5 * terms["alignment"] + 0.2 * terms["structure"]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_no_panel_means_no_alignment_term():
    fused, mean, variance, _ = random_batch()
    loss, terms = total_loss(fused, mean, variance)
    assert set(terms) == {"pixel", "structure"}
    expected = terms["pixel"] + 0.2 * terms["structure"]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.parametrize("norm", ["mean", "sum"])
def test_the_alignment_term_is_equation_10(norm):
    batch = random_batch()
    _, terms = total_loss(*batch, alignment_norm=norm)
    expected = alignment_loss(*batch[-1], norm=norm)
    np.testing.assert_allclose(terms["alignment"], expected, rtol=1e-5)


def test_no_gradient_reaches_a_teacher_value():
    gradients = jax.jit(
        jax.grad(lambda *batch: total_loss(*batch)[0].sum(), argnums=(0, 1, 2, 3))
    )(*random_batch())
    student = jax.tree.leaves((gradients[0], gradients[3].features))
    teacher = jax.tree.leaves((gradients[1], gradients[2], gradients[3].target))
    assert all(np.any(leaf != 0) for leaf in student)
    assert not any(np.any(leaf != 0) for leaf in teacher)


def test_learned_routing_gets_its_gradient_and_the_variances_it_is_given_do_not():
    *images, alignment = random_batch()
    routing = learned_routing()

    @jax.jit
    @jax.grad
    def gradient(inputs):
        params, variances = inputs
        weights = routing(*variances, 0, params)
        return total_loss(*images, alignment._replace(weights=weights))[0].sum()

    variances = jnp.ones((2, 2, 4, 6)), jnp.ones(2)
    of_params, of_variances = gradient(({"logits": jnp.zeros(2)}, variances))
    assert np.all(of_params["logits"] != 0)
    assert not any(np.any(leaf) for leaf in of_variances)


def test_gradients_are_finite_when_everything_is_flat():
    alignment = jax.tree.map(jnp.zeros_like, random_batch()[-1])
    flat = jnp.full((2, 12, 15, 3), 0.5)

    @jax.jit
    def summed(fused, features):
        weights = variance_routing(1.0)(jnp.zeros((2, 2, 4, 6)), jnp.zeros(2))
        inputs = Alignment(features, alignment.target, weights)
        return total_loss(fused, flat, flat[..., 0] * 0, inputs)[0].sum()

    leaves = jax.tree.leaves(
        jax.jit(jax.grad(summed, argnums=(0, 1)))(flat, alignment.features)
    )
    assert all(np.all(np.isfinite(leaf)) for leaf in leaves)


def test_jit_agrees_and_weights_may_be_swept_by_vmap():
    batch = random_batch()

    def mean_loss(pixel_weight, alignment_weight):
        loss, _ = total_loss(
            *batch, pixel_weight=pixel_weight, alignment_weight=alignment_weight
        )
        return loss.mean()

    weights = jnp.array([0.5, 2.0]), jnp.array([0.1, 3.0])
    swept = jax.jit(jax.vmap(mean_loss))(*weights)
    expected = [mean_loss(0.5, 0.1), mean_loss(2.0, 3.0)]
    np.testing.assert_allclose(swept, expected, rtol=1e-5)


def test_a_bfloat16_student_gets_a_float32_loss():
    batch = jax.tree.map(lambda x: x.astype(jnp.bfloat16), random_batch())
    loss, terms = total_loss(*batch)
    assert {leaf.dtype for leaf in (loss, *terms.values())} == {jnp.dtype("float32")}
