"""FLOPs and memory of one training step with the paper's panel at full size.

From shapes alone, no weights and no accelerator needed; it compiles for a minute or
two. Arguments: images in the batch (8), compute dtype (bfloat16).

    python experiments/panel/step_cost.py 8 float32
"""

import sys

from fusionproxy_jax.config import Config, DataConfig
from fusionproxy_jax.panel.foundation_backbone import backbone_without_weights
from fusionproxy_jax.panel.registry import FOUNDATION_MODELS, PAPER
from fusionproxy_jax.training.panel_features import unscaled_panel_features
from fusionproxy_jax.training.step_cost import step_cost


def main(batch_size: int, dtype: str) -> None:
    """Prints one line a panel: none, each backbone alone, all four."""
    config = Config(
        data=DataConfig(crop_px=256, batch_size=batch_size), compute_dtype=dtype
    )
    print(f"batch {batch_size} of 256x256, {dtype}, student base")
    print(f"{'panel':<30}{'TFLOP':>8}{'GB held':>9}{'GB between':>12}")
    for names in ((), *((name,) for name in PAPER), PAPER):
        backbones = [
            backbone_without_weights(FOUNDATION_MODELS[name], dtype=dtype)
            for name in names
        ]
        panel = unscaled_panel_features(backbones, side_px=256)
        cost = step_cost(config, panel)
        print(
            f"{', '.join(names) or 'none':<30}{cost.flops / 1e12:>8.2f}"
            f"{cost.argument_bytes / 1e9:>9.2f}{cost.temporary_bytes / 1e9:>12.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 8,
        sys.argv[2] if len(sys.argv) > 2 else "bfloat16",
    )
