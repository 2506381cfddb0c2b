"""Timed tasks of our solvers and of the baselines, on the same objects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.benchmark.baselines import baseline_h, baseline_lsq, baseline_mesh, baseline_z
from crisp_ros.benchmark.decoded_views import DecodedViews, ViewNoise, decoded_views
from crisp_ros.benchmark.stopwatch import Task
from crisp_ros.correction.active_shape import least_squares
from crisp_ros.correction.certificate import Certificate, certify
from crisp_ros.correction.correspondences import Correspondences, ObjectPoints, Shapes
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.pose_gradient import descend_pose
from crisp_ros.correction.pose_lm import refine_pose
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.correction.shape_projected_gradient import projected_gradient
from crisp_ros.geometry.isosurface import IsosurfaceSettings, TriangleMesh, extract_meshes
from crisp_ros.geometry.registration import Registration, register
from crisp_ros.geometry.se3 import transform
from crisp_ros.network.checkpoint import Model
from crisp_ros.network.library import ShapeLibrary
from crisp_ros.network.model import NetworkOutput
from crisp_ros.network.precision import Precision, in_precision, native_precisions
from crisp_ros.pipeline import decoded_shapes


class BenchError(ValueError):
    """A model that cannot be timed."""


@dataclass(frozen=True)
class BenchSettings:
    """Size of the benchmark.

    Attributes:
        quick: fewer objects and repetitions, at most a minute.
        objects: number of objects of one run.
        points: number of points per object.
        voxels: of a mesh, along the longest edge of its box.
        grid: points along each edge of the grid of `baseline_h_grid`; 64 in the released code.
        noise: of the views.
        seed: of all random numbers.
        precision: of the network's arithmetic in a frame; "auto" is the fastest one.
    """

    quick: bool = False
    objects: int = 5
    points: int = 1000
    voxels: int = 64
    grid: int = 32
    noise: ViewNoise = ViewNoise()
    seed: int = 0
    precision: Precision = "auto"


class Problem(NamedTuple):
    """Input of the solvers.

    Attributes:
        views: B views.
        codes: (B, C) true codes.
        wrong_codes: (B, C) codes of other shapes.
        registration: poses from the network's coordinates.
        z: (B, N, 3) points in the true object frame, metres.
    """

    views: DecodedViews
    codes: Tensor
    wrong_codes: Tensor
    registration: Registration
    z: Tensor


def problems(model: Model, settings: BenchSettings, device: str) -> list[Problem]:
    """Return problems with views of all library shapes, or of some of them if `quick`.

    Raises:
        BenchError: the model has no shape library.
        ViewError: the decoder has no surface in the box of a shape.
    """
    library, decoder = required_library(model), model.network.decoder
    count = len(library)
    batches = -(-count // settings.objects)
    made = []
    for batch in range(min(batches, 2) if settings.quick else batches):
        shapes = [(batch * settings.objects + i) % count for i in range(settings.objects)]
        seed = settings.seed + batch
        views = decoded_views(decoder, library, shapes, settings.noise, settings.points, seed)
        made.append(
            Problem(
                views.to(device),
                library.codes[views.shapes].to(device),
                library.codes[(views.shapes + max(1, count // 3)) % count].to(device),
                register(*(part.to(device) for part in views[1:4])),
                transform(views.T_object_camera, views.points).to(device),
            )
        )
    return made


def required_library(model: Model) -> ShapeLibrary:
    """The model's shape library.

    Raises:
        BenchError: the model has none.
    """
    if model.library is None:
        raise BenchError("the model has no shape code library; build one with crisp library build")
    return model.library


def solver_tasks(
    model: Model, field: ShapeField, given: list[Problem], settings: BenchSettings, device: str
) -> list[Task]:
    """The tasks of solvers and baselines; answers are poses, codes, column indices or meshes.

    Args:
        model: on the device.
        field: distances to the known shapes for our solvers; the baselines use the decoder.
        given: the problems, each an input.
        settings: see `BenchSettings`.
        device: on which everything runs.
    """
    prepared = PreparedLibrary(field, required_library(model))
    work = _Work(field, prepared, given, settings)
    slow, fast = (2, 6) if settings.quick else (10, 30)
    meshes = 1 if settings.quick else 5

    def task(name: str, run: Callable[[int], object], repetitions: int, solver: str) -> Task:
        inputs, points = len(given), settings.points
        if name.startswith(("mesh", "baseline_mesh")):
            points = settings.voxels
        return Task(name, run, inputs, repetitions, settings.objects, points, solver, device)

    tasks = [
        task("registration", work.registration, fast, "robust, batched"),
        task("z_gradient", work.z_gradient, slow, "Adam on Z, Algorithm 1"),
        task("z_second_order", work.z_second_order, fast, "Levenberg-Marquardt"),
        task("baseline_z", work.baseline_z, slow, "Adam on Z, RANSAC in each step"),
        task("h_gradient", work.h_gradient, fast, "projected gradient"),
        task("baseline_h", work.baseline_h, slow, "one by one, no grid"),
        task("lsq", work.lsq, fast, "one-hot, Algorithm 2"),
        task("baseline_lsq", work.baseline_lsq, fast, "column by column"),
        task("certificate", work.certificate, fast, "on known poses"),
        task("mesh", work.mesh, fast, "coarse to fine"),
        task("mesh_dense", work.mesh_dense, meshes, "the cube, small chunks"),
        task("baseline_mesh", work.baseline_mesh, meshes, "the cube, large chunks"),
    ]
    if not settings.quick:
        solver = f"with a grid of {settings.grid}^3"
        one = Task("baseline_h_grid", work.baseline_h_grid, 1, 2, 1, settings.points, solver)
        tasks.append(one)
    return tasks


@dataclass(frozen=True)
class _Work:
    """The timed functions, called with the index of a problem."""

    field: ShapeField
    prepared: PreparedLibrary
    given: list[Problem]
    settings: BenchSettings

    def registration(self, i: int) -> Tensor:
        views = self.given[i].views
        return register(views.points, views.pnc, views.valid).T_object_camera

    def z_gradient(self, i: int) -> Tensor:
        step = descend_pose(self.field, self._correspondences(i), self._shapes(i))
        return step.T_object_camera

    def z_second_order(self, i: int) -> Tensor:
        T = self.given[i].registration.T_object_camera
        step = refine_pose(self.field, self._correspondences(i), self._shapes(i), T)
        return step.T_object_camera

    def baseline_z(self, i: int) -> Tensor:
        views, codes = self.given[i].views, self.given[i].codes
        return baseline_z(
            self.field.decoder, views.points, views.pnc, codes, seed=self.settings.seed
        )

    def h_gradient(self, i: int) -> Tensor:
        problem = self.given[i]
        points = ObjectPoints.of(problem.z, problem.views.valid)
        wrong = Shapes.of_codes(problem.wrong_codes)
        return projected_gradient(self.field, points, wrong, self.prepared).shapes.codes

    def baseline_h(self, i: int) -> Tensor:
        problem = self.given[i]
        return baseline_h(self.field.decoder, problem.z, problem.wrong_codes, self.prepared.codes)

    def baseline_h_grid(self, i: int) -> Tensor:
        problem, grid = self.given[i], self.settings.grid
        one = problem.z[:1], problem.wrong_codes[:1]
        return baseline_h(self.field.decoder, *one, self.prepared.codes, grid_samples=grid)

    def lsq(self, i: int) -> Tensor:
        problem = self.given[i]
        points = ObjectPoints.of(problem.z, problem.views.valid)
        wrong = Shapes.of_codes(problem.wrong_codes)
        return least_squares(self.field, points, wrong, self.prepared).coefficients.argmax(-1)

    def baseline_lsq(self, i: int) -> Tensor:
        return baseline_lsq(self.field.decoder, self.given[i].z, self.prepared.codes).chosen

    def certificate(self, i: int) -> Certificate:
        views = self.given[i].views
        hypotheses = Hypotheses.of_points(views.points, views.valid, self._shapes(i))
        return certify(self.field, hypotheses._replace(T_object_camera=views.T_object_camera))

    def mesh(self, i: int) -> list[TriangleMesh]:
        problem = self.given[i]
        lower, upper = self._boxes(i)
        sdf = decoded_shapes(self.field.decoder, problem.codes)
        return extract_meshes(sdf, lower, upper, IsosurfaceSettings(self.settings.voxels))

    def mesh_dense(self, i: int) -> list[TriangleMesh]:
        return self._dense(self.field.decoder.sdf, i)

    def baseline_mesh(self, i: int) -> list[TriangleMesh]:
        return self._dense(self.field.decoder, i)

    def _correspondences(self, i: int) -> Correspondences:
        views, start = self.given[i].views, self.given[i].registration
        weights = start.inliers.to(views.points.dtype)
        return Correspondences(views.points, views.pnc, weights, views.valid)

    def _shapes(self, i: int) -> Shapes:
        return self.prepared.shapes(self.given[i].views.shapes)

    def _dense(self, sdf: Callable[[Tensor, Tensor], Tensor], i: int) -> list[TriangleMesh]:
        shapes = zip(self.given[i].codes, *self._boxes(i), strict=True)
        return [baseline_mesh(sdf, *shape, voxels=self.settings.voxels) for shape in shapes]

    def _boxes(self, i: int) -> tuple[Tensor, Tensor]:
        shapes = self.given[i].views.shapes
        boxes = self.prepared.shapes(shapes)
        return boxes.lower, boxes.upper


def network_tasks(model: Model, settings: BenchSettings, device: str) -> list[Task]:
    """The network on one crop per object, in each precision that the device computes in."""
    names = native_precisions(torch.device(device))
    tasks = [_network_task(model, settings, device, name) for name in names]
    return [replace(tasks[0], name="network"), *tasks[1:]]


def _network_task(model: Model, settings: BenchSettings, device: str, precision: Precision) -> Task:
    size = model.network.crop_size
    generator = torch.Generator().manual_seed(settings.seed)
    shape = (settings.objects, model.network.input_channels, size, size)
    crops = torch.rand(*shape, generator=generator).to(device)

    @torch.no_grad()
    def run(_: int) -> NetworkOutput:
        with in_precision(precision, torch.device(device)):
            return model.network(crops)

    how = f"{model.network.config.design}, {size} px, {precision}"
    name, count = f"network_{precision}", 4 if settings.quick else 20
    return Task(name, run, 1, count, settings.objects, 0, how, device)
