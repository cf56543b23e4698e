"""A tiny student of every encoder."""

from tiny_student import TINY

from fusionproxy_jax.config import StudentConfig

TINY_STUDENTS = {
    "convnext_v2": TINY,
    "mobilenet_v4": StudentConfig(
        encoder="mobilenet_v4",
        stem_width=8,
        widths=(8, 8),
        depths=(1, 2),
        normalization="affine",
        activation="relu",
    ),
    "efficientformer_v2": StudentConfig(
        encoder="efficientformer_v2",
        stem_width=8,
        widths=(8, 8, 8, 8),
        # The last two with attention, each of another kind, and between them the
        # attention that halves the size.
        depths=(1, 1, 1, 1),
        normalization="affine",
    ),
    "ultra_light": StudentConfig(
        encoder="ultra_light",
        stem_width=8,
        widths=(8, 16),
        depths=(1, 1),
        kernel_size=3,
        stem_stride=4,
        normalization="affine",
        activation="hardswish",
        decoder_join="add",
        decoder_separable=True,
    ),
}
