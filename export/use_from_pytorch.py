"""Makes an exported student a torch.nn.Module: python use_from_pytorch.py MODEL.onnx.

MODEL is the float file: NCHW in [0, 1], any size. Needs torch and onnx2torch. If
torchvision does not fit your torch: pip install --no-deps onnx2torch, and the stand-in
below takes its place (no student has an operator of torchvision).
"""

import importlib.util
import sys
import types

if importlib.util.find_spec("torchvision") is None:
    operators = types.ModuleType("torchvision.ops")
    operators.roi_align = None
    sys.modules["torchvision"] = types.ModuleType("torchvision")
    sys.modules["torchvision.ops"] = operators

import onnx2torch
import torch


def load(path: str) -> torch.nn.Module:
    """Returns a module of (visible [b, 3, h, w], infrared [b, 1, h, w]) -> fused."""
    return onnx2torch.convert(path).eval()


if __name__ == "__main__":
    student = load(sys.argv[1])
    visible, infrared = torch.rand(2, 3, 123, 157), torch.rand(2, 1, 123, 157)
    with torch.no_grad():
        fused = student(visible, infrared)
    print(tuple(fused.shape), float(fused.min()), float(fused.max()))
