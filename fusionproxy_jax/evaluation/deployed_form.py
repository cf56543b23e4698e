"""A deployed form of a student, whatever its file is like, as a function."""

from pathlib import Path

import numpy as np
from PIL import Image

from fusionproxy_jax.errors import FusionProxyError
from fusionproxy_jax.evaluation.extreme_pairs import Pair
from fusionproxy_jax.evaluation.graph_images import to_tensors
from fusionproxy_jax.evaluation.image_graph import Size, read_image_graph
from fusionproxy_jax.evaluation.runners import (
    RunnerOptions,
    first_line,
    open_graph,
    open_onnxruntime,
)
from fusionproxy_jax.runtime.cores import num_physical_cores


class DeployedForm:
    """An opened ONNX file; a call fuses a pair of the camera."""

    def __init__(
        self, source: str, model: Path | bytes, *, threads: int | None = None
    ) -> None:
        """Opens a file, or the bytes of one, that messages call `source`.

        Args:
            source: Its name.
            model: Path or content.
            threads: All physical cores by default.

        Raises:
            FusionProxyError: No such file, not ONNX, or not a fusion network.
        """
        self.source = source
        options = RunnerOptions(threads=threads or num_physical_cores())
        if isinstance(model, bytes):
            self._opened = open_onnxruntime(model, options)
        else:
            self._opened = open_graph(model, runtime="onnxruntime", options=options)
        self._graph = read_image_graph(
            source, self._opened.inputs, self._opened.outputs
        )

    @property
    def fixed_size(self) -> Size | None:
        """The only size it takes; None where any goes."""
        return self._graph.fixed_size

    def __call__(self, visible: np.ndarray, infrared: np.ndarray) -> np.ndarray:
        """Returns the fused image in levels, 0 to 255, float32 [h, w, 3], not rounded.

        Args:
            visible: uint8 [h, w, 3] RGB.
            infrared: uint8 [h, w].

        Raises:
            FusionProxyError: It does not take this pair, or gives no RGB image of its
                size.
        """
        height, width = infrared.shape
        self._graph.check_size(height, width)
        feeds = to_tensors(self._graph, visible, infrared)
        try:
            batch = self._opened.run(feeds, [self._graph.output])[0]
        # ONNX Runtime's exceptions share no base class below Exception.
        except Exception as error:
            raise FusionProxyError(
                f"{self.source} cannot fuse {height}x{width} ({first_line(error)}); "
                "give a size it takes"
            ) from error
        is_first = self._graph.inputs[0].channels_first
        expected = (1, 3, height, width) if is_first else (1, height, width, 3)
        if batch.shape != expected:
            raise FusionProxyError(
                f"{self.source} gives {self._graph.output} of shape "
                f"{list(batch.shape)} for images of {height}x{width}; forms of a "
                f"student give {list(expected)}"
            )
        fused = batch[0].transpose(1, 2, 0) if is_first else batch[0]
        levels = 1 if fused.dtype == np.uint8 else 255
        return fused.astype(np.float32) * np.float32(levels)


def common_size(reference: DeployedForm, form: DeployedForm) -> Size | None:
    """Returns the one size both take; None where both take any.

    Raises:
        FusionProxyError: They take different ones.
    """
    sizes = {each.fixed_size for each in (reference, form)} - {None}
    if len(sizes) > 1:
        told = " and ".join(
            f"{each.source} {each.fixed_size[0]}x{each.fixed_size[1]}"
            for each in (reference, form)
        )
        raise FusionProxyError(
            f"these forms take different sizes only, {told}; compare each with the "
            "form that takes any size"
        )
    return sizes.pop() if sizes else None


def sized_pair(pair: Pair, size: Size | None) -> list[np.ndarray]:
    """Returns visible and infrared image resized to a size; None leaves them."""
    if size is None or pair[1].shape == size:
        return list(pair)
    height, width = size
    return [
        np.asarray(
            Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        )
        for image in pair
    ]
