"""The training objective, Eq. 12: pixel, alignment and structure terms together."""

import jax
from jaxtyping import Array, Float, Float32, ScalarLike

from fusionproxy_jax.losses.alignment import FeatureStatistics, alignment_loss
from fusionproxy_jax.losses.pixel import pixel_loss
from fusionproxy_jax.losses.routing import routing_weights
from fusionproxy_jax.losses.structure import structure_loss


def total_loss(
    fused: Float[Array, "b h w c"],
    ensemble_mean: Float[Array, "b h w c"],
    ensemble_variance: Float[Array, "b h w"],
    features: tuple[Float[Array, "b _ _ _"], ...] | None = None,
    feature_statistics: FeatureStatistics | None = None,
    *,
    pixel_weight: ScalarLike = 1.0,
    alignment_weight: ScalarLike = 0.5,
    structure_weight: ScalarLike = 0.2,
    epsilon: ScalarLike = 1e-3,
    routing_temperature: ScalarLike = 1.0,
) -> tuple[Float32[Array, " b"], dict[str, Float32[Array, " b"]]]:
    """Weighted sum of the three terms, Eq. 12, one value per image.

    No gradient reaches a teacher value. Weights, `epsilon` and the temperature may be
    traced arrays, so that a sweep compiles once.

    Args:
        fused: the student's output, not clipped.
        ensemble_mean: mean of the teacher samples, Eq. 4.
        ensemble_variance: their variance, Eq. 5.
        features: scaled panel features of `fused`, one map a backbone; None leaves the
            alignment term out.
        feature_statistics: what the panel saw in the teacher samples.
        pixel_weight: lambda_pix.
        alignment_weight: lambda_MFM.
        structure_weight: lambda_ssim.
        epsilon: Eq. 7's, in squared [0, 1] units.
        routing_temperature: Eq. 8's tau; `math.inf` weights backbones uniformly.

    Returns:
        The loss, and its terms before weighting: `pixel`, `structure` and, with
        features, `alignment`.

    Raises:
        ValueError: features without `feature_statistics` to align them to.
    """
    ensemble_mean, ensemble_variance, feature_statistics = jax.lax.stop_gradient(
        (ensemble_mean, ensemble_variance, feature_statistics)
    )
    terms = {
        "pixel": pixel_loss(fused, ensemble_mean, ensemble_variance, epsilon=epsilon),
        "structure": structure_loss(fused, ensemble_mean),
    }
    loss = pixel_weight * terms["pixel"] + structure_weight * terms["structure"]
    if features is None:
        return loss, terms

    if feature_statistics is None:
        raise ValueError("features were given but no feature_statistics to align to")
    weights = routing_weights(
        feature_statistics.variance,
        feature_statistics.mean_variance,
        temperature=routing_temperature,
    )
    terms["alignment"] = alignment_loss(features, feature_statistics.target, weights)
    return loss + alignment_weight * terms["alignment"], terms
