"""What a panel's features in a cache are, and what they take."""

from fusionproxy_jax.teachers.cached_tiles import TeacherCache


def panel_lines(cache: TeacherCache) -> list[str]:
    """Returns a line for each backbone whose features the cache holds.

    Stored sizes are compared with features of every sample on the common grid, float32.
    """
    teacher = cache.manifest.teacher
    num_samples = len(teacher["teachers"]) * teacher["num_samples"]
    lines = []
    for backbone in cache.panel:
        height, width = backbone.feature_grid
        every_sample = 4 * num_samples * backbone.grid**2 * backbone.num_channels
        silent = backbone.num_silent
        lines.append(
            f"{backbone.name}: features {height}x{width}x{backbone.num_channels}, "
            f"{backbone.bytes_per_tile / 1e6:.2f} MB per tile, "
            f"{every_sample / backbone.bytes_per_tile:.0f} times less than those of "
            f"all {num_samples} samples at {backbone.grid}x{backbone.grid} in float32; "
            f"mean variance {backbone.mean_variance:.4g}"
            + (
                "; its targets are features of the mean sample"
                if backbone.target == "features_of_mean"
                else ""
            )
            + (
                f"; {silent} of its channels hardly vary and count nothing"
                if silent
                else ""
            )
        )
    return lines
