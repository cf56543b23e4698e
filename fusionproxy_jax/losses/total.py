"""The training objective, Eq. 12: pixel, alignment and structure terms together."""

import jax
from jaxtyping import Array, Float, Float32, ScalarLike

from fusionproxy_jax.losses.alignment import Alignment, ChannelNorm, alignment_loss
from fusionproxy_jax.losses.pixel import pixel_loss
from fusionproxy_jax.losses.structure import structure_loss


def total_loss(
    fused: Float[Array, "b h w c"],
    ensemble_mean: Float[Array, "b h w c"],
    ensemble_variance: Float[Array, "b h w"],
    alignment: Alignment | None = None,
    *,
    pixel_weight: ScalarLike = 1.0,
    alignment_weight: ScalarLike = 0.5,
    structure_weight: ScalarLike = 0.2,
    epsilon: ScalarLike = 1e-3,
    alignment_norm: ChannelNorm = "mean",
) -> tuple[Float32[Array, " b"], dict[str, Float32[Array, " b"]]]:
    """Weighted sum of the three terms, Eq. 12, one value per image.

    No gradient reaches a teacher value; routing weights that are learned get theirs.
    Weights and `epsilon` may be traced arrays, so that a sweep compiles once.

    Args:
        fused: the student's output, not clipped.
        ensemble_mean: mean of the teacher samples, Eq. 4.
        ensemble_variance: their variance, Eq. 5.
        alignment: panel features of `fused`, their target and the weights some
            `Routing` gave; None leaves the alignment term out.
        pixel_weight: lambda_pix.
        alignment_weight: lambda_MFM.
        structure_weight: lambda_ssim.
        epsilon: Eq. 7's, in squared [0, 1] units.
        alignment_norm: squared norm of Eq. 10 as "mean" or "sum" over channels.

    Returns:
        The loss, and its terms before weighting: `pixel`, `structure` and, with
        features, `alignment`.
    """
    ensemble_mean, ensemble_variance = jax.lax.stop_gradient(
        (ensemble_mean, ensemble_variance)
    )
    terms = {
        "pixel": pixel_loss(fused, ensemble_mean, ensemble_variance, epsilon=epsilon),
        "structure": structure_loss(fused, ensemble_mean),
    }
    loss = pixel_weight * terms["pixel"] + structure_weight * terms["structure"]
    if alignment is None:
        return loss, terms

    terms["alignment"] = alignment_loss(
        alignment.features,
        jax.lax.stop_gradient(alignment.target),
        alignment.weights,
        norm=alignment_norm,
    )
    return loss + alignment_weight * terms["alignment"], terms
