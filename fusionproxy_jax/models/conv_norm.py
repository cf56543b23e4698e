"""The layers of the mobile encoders: convolution, normalisation, activation."""

import jax
from flax import linen as nn
from jaxtyping import Array, Float

from fusionproxy_jax.models.activation import activate
from fusionproxy_jax.models.depthwise import depthwise
from fusionproxy_jax.models.layer_style import LayerStyle
from fusionproxy_jax.models.normalization import Affine, scaled

Features = Float[Array, "b _ _ _"]
Kernel = Float[Array, "_ _ _ _"]


def _convolve(x: Features, kernel: Kernel, style: LayerStyle, stride: int) -> Features:
    """Convolves with zero borders; a kernel for one input channel is depthwise."""
    x, kernel = x.astype(style.dtype), kernel.astype(style.dtype)
    if kernel.shape[2] == 1 < x.shape[-1]:
        return depthwise(x, kernel, stride=stride, grouped=style.grouped)
    border = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=((border, border), (border, border)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


class ConvNorm(nn.Module):
    """Convolution without bias, normalisation, and an activation if wanted.

    Attributes:
        style: See `LayerStyle`.
        features: Output channels; None makes the convolution depthwise.
        kernel_size: Odd edge length.
        stride: 1 or 2; a side of `n` pixels becomes `ceil(n / stride)`.
        activated: Whether the activation follows.
        initial_scale: Of the normalisation. Below one at the end of a residual branch,
            so that a new deep network does not amplify: unlike batch normalisation,
            affine layers leave the size of what they get.
    """

    style: LayerStyle
    features: int | None = None
    kernel_size: int = 1
    stride: int = 1
    activated: bool = True
    initial_scale: float = 1.0

    @nn.compact
    def __call__(self, x: Features) -> Features:
        """Returns the new features."""
        style, channels = self.style, x.shape[-1]
        inputs = 1 if self.features is None else channels
        features = channels if self.features is None else self.features
        kernel = self.param(
            "kernel",
            # Rectifiers halve the second moment.
            nn.initializers.variance_scaling(
                2.0 if self.activated else 1.0, "fan_in", "truncated_normal"
            ),
            (self.kernel_size, self.kernel_size, inputs, features),
        )
        if style.normalization == "affine":
            affine = Affine(self.initial_scale, name="norm")(features)
            kernel, bias = scaled(kernel, *affine, dtype=style.dtype)
            y = _convolve(x, kernel, style, self.stride) + bias
        else:
            y = nn.LayerNorm(
                epsilon=1e-6,
                dtype=style.dtype,
                scale_init=nn.initializers.constant(self.initial_scale),
                name="norm",
            )(_convolve(x, kernel, style, self.stride))
        return activate(y, style.activation) if self.activated else y
