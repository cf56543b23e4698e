"""Fuses a pair with ONNX Runtime alone: python use_from_onnxruntime.py MODEL V I OUT.

MODEL is a `_camera.onnx` file: uint8, channels last, any size. V is the visible image,
I the infrared one, of the same size and registered to it. Needs numpy, pillow,
onnxruntime.
"""

import sys

import numpy as np
import onnxruntime
from PIL import Image


def main(model: str, visible_path: str, infrared_path: str, out_path: str) -> None:
    """Reads, fuses, writes."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    visible = np.asarray(Image.open(visible_path).convert("RGB"))
    infrared = np.asarray(Image.open(infrared_path).convert("L"))
    # Batch first; infrared has one channel.
    feeds = {"visible": visible[None], "infrared": infrared[None, ..., None]}
    (fused,) = session.run(["fused"], feeds)
    Image.fromarray(fused[0]).save(out_path)


if __name__ == "__main__":
    main(*sys.argv[1:])
