"""Pictures of a student in training: held-out pairs, and where the routing goes."""

from pathlib import Path
from typing import Any

from fusionproxy_jax.losses.routing_variants import Routing
from fusionproxy_jax.models.student import Student
from fusionproxy_jax.training.pictures import ValidationPictures
from fusionproxy_jax.training.routing import split_routing
from fusionproxy_jax.training.routing_pictures import RoutingPictures
from fusionproxy_jax.training.student_inputs import StudentInputs

PyTree = Any


class StudentPictures:
    """Draws the same pairs, and with a panel the same tiles, at any step."""

    def __init__(self, inputs: StudentInputs, module: Student) -> None:
        """Reads the pairs and tiles to draw."""
        data = inputs.config.data
        self._pairs = ValidationPictures(
            module, data.sources, validation_fraction=data.validation_fraction
        )
        self._tiles = (
            None
            if inputs.panel is None
            else RoutingPictures(inputs.cache, inputs.panel)
        )

    def write(
        self, directory: Path, step: int, params: PyTree, routing: Routing | None
    ) -> dict[str, Path]:
        """Writes `fused` and `routing` into `directory`, as far as there are any.

        Args:
            directory: Made when missing.
            step: In the files' names.
            params: Of student and routing.
            routing: That of the run.
        """
        student, routing_params = split_routing(params)
        drawn = {"fused": self._pairs.write(directory, step, student)}
        if self._tiles is not None:
            drawn["routing"] = self._tiles.write(
                directory, step, routing, routing_params
            )
        return {name: path for name, path in drawn.items() if path is not None}
