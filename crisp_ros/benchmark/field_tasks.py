"""Timed tasks of the signed distances: tables against the decoder, and making the tables."""

from __future__ import annotations

from collections.abc import Callable

from crisp_ros.benchmark.solver_tasks import BenchSettings, Problem, required_library
from crisp_ros.benchmark.stopwatch import Task
from crisp_ros.correction.correspondences import Shapes
from crisp_ros.correction.shape_field import DecoderField, ShapeField
from crisp_ros.correction.tabulated_field import TabulatedField
from crisp_ros.network.checkpoint import Model
from crisp_ros.network.decoder import SignedDistance
from crisp_ros.pipeline import Estimator


def field_tasks(
    model: Model, field: ShapeField, given: list[Problem], settings: BenchSettings, device: str
) -> list[Task]:
    """Evaluations with gradients by both fields, and what a start needs.

    Args:
        model: on the device.
        field: with tables of the library.
        given: the problems, one an input.
        settings: see `BenchSettings`.
        device: where everything runs.
    """
    library, decoder = required_library(model), model.network.decoder
    fast, slow = (6, 1) if settings.quick else (30, 3)

    def evaluation(used: ShapeField) -> Callable[[int], SignedDistance]:
        def run(i: int) -> SignedDistance:
            index = given[i].views.shapes.to(device)
            shapes = Shapes(given[i].codes, library.lower[index], library.upper[index], index)
            return used.sdf_and_gradient(given[i].z, shapes)

        return run

    def making(_: int) -> None:
        TabulatedField(decoder, library).prepare()

    def configuration(_: int) -> None:
        Estimator(model, device=device).warm_up()

    def evaluate(name: str, used: ShapeField, solver: str) -> Task:
        size = settings.objects, settings.points
        return Task(name, evaluation(used), len(given), fast, *size, solver, device)

    def start(name: str, run: Callable[[int], None], solver: str) -> Task:
        return Task(name, run, 1, slow, len(library), 0, solver, device)

    return [
        evaluate("field", field, "tables, with gradients"),
        evaluate("field_decoder", DecoderField(decoder), "decoder, with gradients"),
        start("tables_made", making, "of all shapes"),
        start("configuration", configuration, "tables from the cache, symmetries"),
    ]
