"""Tiny published encoders at random, as their libraries store them."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple
from unittest import mock

import torch
import transformers
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional
from torch_oracles import efficientformer_v2, mobilenet_v4, published_names
from torch_oracles.batch_norm import redraw

from fusionproxy_jax.config import StudentConfig

IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
IMAGENET_DEVIATION = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)


class Published(NamedTuple):
    state: dict[str, torch.Tensor]
    # NCHW images in [0, 1] to the maps that the student's encoder has.
    features: Callable[[torch.Tensor], list[torch.Tensor]]
    # A student with fewer stages and blocks than published, where that is possible.
    student: StudentConfig
    sides: tuple[int, int] = (32, 48)


def _normalised(image, border=0):
    """The border of zeros is added to the image, not to what is made of it."""
    padded = functional.pad(image, (border,) * 4)
    return (padded - IMAGENET_MEAN) / IMAGENET_DEVIATION


@functools.cache
def mobilenet():
    stem_width, widths = 8, (8, 10, 12, 8)
    network = redraw(mobilenet_v4.Encoder(stem_width, widths))
    head = redraw(mobilenet_v4.ClassificationHead(widths[-1]))
    state = published_names.renamed(
        network.state_dict() | head.state_dict(), published_names.MOBILENET_V4
    )
    student = StudentConfig(
        encoder="mobilenet_v4",
        stem_width=stem_width,
        widths=widths[:3],
        depths=(1, 2, 3),
        normalization="affine",
        activation="relu",
    )
    network.stages = nn.ModuleList(
        stage[:depth]
        for stage, depth in zip(network.stages, student.depths[1:], strict=False)
    )
    network.stem[0].padding = (0, 0)
    return Published(state, lambda x: network(_normalised(x, border=1)), student)


@functools.cache
def efficientformer():
    # The bias tables are those of this size.
    side, stem_width, widths = 224, 4, (4, 6, 8, 6)
    # The last two blocks attend: in the third stage all but the first.
    with mock.patch.object(efficientformer_v2, "EXPANSIONS", ("4", "4", "443", "44")):
        network = redraw(efficientformer_v2.Encoder(stem_width, widths, side))
    head = redraw(efficientformer_v2.ClassificationHead(widths[-1]))
    state = published_names.renamed(
        network.state_dict() | head.state_dict(), published_names.EFFICIENTFORMER_V2
    )
    state = {
        key: tensor.flatten() if key.endswith("gamma") else tensor
        for key, tensor in state.items()
    }
    student = StudentConfig(
        encoder="efficientformer_v2",
        stem_width=stem_width,
        widths=widths,
        depths=(1, 1, 3, 2),
        normalization="affine",
    )
    network.stem[0].padding = (0, 0)

    return Published(
        state,
        lambda x: network(_normalised(x, border=1)),
        student,
        sides=(side, side),
    )


@functools.cache
def convnext():
    config = transformers.ConvNextV2Config(
        num_stages=4, hidden_sizes=[4, 6, 8, 6], depths=[2, 2, 3, 1], num_labels=2
    )
    network = transformers.ConvNextV2ForImageClassification(config)
    network = redraw(network)
    stages = network.convnextv2.encoder.stages
    student = StudentConfig(stem_width=4, widths=(6, 8), depths=(2, 2), stem_stride=4)

    def features(image):
        maps = [network.convnextv2.embeddings.patch_embeddings(_normalised(image))]
        for stage, depth in zip(stages[1:], student.depths, strict=False):
            x = maps[-1]
            for layer in [*stage.downsampling_layer, *stage.layers[:depth]]:
                x = layer(x)
            maps.append(x)
        return maps

    return Published(network.state_dict(), features, student)


@functools.cache
def convnext_timm():
    """As timm stores its smaller ones: products are convolutions."""
    published = convnext()
    state = published_names.renamed(published.state, published_names.CONVNEXT_V2)
    for key, tensor in state.items():
        if ".grn." in key:
            state[key] = tensor.flatten()
        if key.endswith(("fc1.weight", "fc2.weight")):
            state[key] = tensor[:, :, None, None]
    return published._replace(state=state)


KINDS = {
    "mobilenet_v4": mobilenet,
    "efficientformer_v2": efficientformer,
    "convnext_v2 of timm": convnext_timm,
    "convnext_v2 of transformers": convnext,
}


def write(path, state):
    """Writes a state dict, as torch or safetensors by the file's suffix."""
    state = {key: tensor.detach().clone() for key, tensor in state.items()}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state}, path)
    return path


def changed(kind, **changes):
    """Returns the student of a kind with other settings."""
    return dataclasses.replace(KINDS[kind]().student, **changes)
