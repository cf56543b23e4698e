import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fusionproxy_jax.teachers.mask_difuser.attention import attend


def _random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("num_queries", [40, 41])
def test_attention_in_blocks_equals_attention_at_once(num_queries):
    query = _random(2, 2, num_queries, 6)
    key, value = _random(2, 2, 2, 13, 6, seed=1)

    def total(query, key, value, max_scores):
        result = attend(query, key, value, max_scores=max_scores)
        return jnp.sum(jnp.sin(result)), result

    differentiate = jax.jit(
        jax.value_and_grad(total, (0, 1, 2), has_aux=True), static_argnums=3
    )
    # Nine queries at a time, so that the last block is a smaller one.
    (_, blocks), blocks_grad = differentiate(query, key, value, 2 * 9 * 13)
    (_, plain), plain_grad = differentiate(query, key, value, 2**20)
    np.testing.assert_allclose(blocks, plain, rtol=1e-5, atol=1e-6)
    for one, other in zip(blocks_grad, plain_grad, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    scores = np.einsum("bnqc,bnkc->bnqk", query, key) / np.sqrt(6)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    expected = np.einsum("bnqk,bnkc->bnqc", weights, value)
    np.testing.assert_allclose(plain, expected, rtol=1e-4, atol=1e-5)


def test_attention_in_blocks_holds_no_more_scores_than_allowed():
    query, key = (jax.ShapeDtypeStruct((1, 1, n, 4), jnp.float32) for n in (512, 64))
    text = jax.jit(lambda q, k: attend(q, k, k, max_scores=1024)).lower(query, key)
    assert "1x1x16x64xf32" in text.as_text()
    assert "512x64xf32" not in text.as_text()
