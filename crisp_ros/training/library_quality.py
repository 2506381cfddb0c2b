"""Checks of a shape library, and errors of decoded shapes against their meshes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import torch
import trimesh
from torch import Tensor

from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.shape_field import DecoderField
from crisp_ros.data.meshes import surface_samples
from crisp_ros.geometry.chamfer import pairwise_distances, sampled_chamfer
from crisp_ros.geometry.isosurface import IsosurfaceSettings, extract_meshes
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.library import ShapeLibrary, shape_boxes

_ERROR_SAMPLES = 10_000


@dataclass(frozen=True)
class LibraryQualitySettings:
    """Limits of `check_library`.

    Attributes:
        voxels: of the meshes, along the longest edge of a box.
        duplicate_code: code distance at or below which two shapes are duplicates, as a share of
            the codes' mean norm.
        duplicate_m: Chamfer distance at or below which two shapes are duplicates, metres.
        largest_condition: of the matrix of codes.
        box_tolerance: largest difference of the stored box to the mesh's, as a share of its
            diagonal.
    """

    voxels: int = 64
    duplicate_code: float = 0.01
    duplicate_m: float = 0.0005
    largest_condition: float = 1e6
    box_tolerance: float = 0.05


class CheckedShape(NamedTuple):
    """The check of one shape of a library.

    Attributes:
        name: of the shape.
        diameter_m: diagonal of its box.
        volume_m3: of its mesh; NaN without a surface.
        watertight: the mesh has no hole.
        box_error_m: largest difference of a corner of the stored box to the mesh's.
        symmetries: their number.
    """

    name: str
    diameter_m: float
    volume_m3: float
    watertight: bool
    box_error_m: float
    symmetries: int


class ShapePair(NamedTuple):
    """The distance of two shapes.

    Attributes:
        names: of both.
        code_distance: of the codes, over their mean norm.
        chamfer_m: of the surfaces in their object frames, metres.
    """

    names: tuple[str, str]
    code_distance: float
    chamfer_m: float


@dataclass(frozen=True)
class LibraryCheck:
    """The result of `check_library`.

    Attributes:
        code_dim: length of a code, C.
        rank: of the matrix of codes (K, C); below K the coefficients of a mixture are ambiguous.
        condition: of the matrix of codes.
        shapes: in the order of the library.
        pairs: all pairs, the nearest surfaces first.
        problems: one line each.
    """

    code_dim: int
    rank: int
    condition: float
    shapes: tuple[CheckedShape, ...]
    pairs: tuple[ShapePair, ...]
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values; null where there is no finite number."""
        return {
            "shapes": [{k: _finite(v) for k, v in s._asdict().items()} for s in self.shapes],
            "code_dim": self.code_dim,
            "rank": self.rank,
            "condition": _finite(self.condition),
            "pairs": [{k: _finite(v) for k, v in p._asdict().items()} for p in self.pairs],
            "problems": list(self.problems),
        }


def check_library(
    decoder: ShapeDecoder, library: ShapeLibrary, settings: LibraryQualitySettings | None = None
) -> LibraryCheck:
    """Look for shapes without a closed surface, wrong boxes and duplicates."""
    settings = settings or LibraryQualitySettings()
    values = torch.linalg.svdvals(library.codes.double())
    rank = int(torch.linalg.matrix_rank(library.codes.double()))
    short = len(values) < len(library) or values[-1] == 0
    condition = math.inf if short else float(values[0] / values[-1])
    shapes = tuple(_checked(decoder, library, k, settings) for k in range(len(library)))
    pairs = library_pairs(decoder, library)
    problems = [problem for shape in shapes for problem in _problems(shape, settings)]
    problems += [
        f"{pair.names[0]} and {pair.names[1]} are nearly the same shape: codes "
        f"{100 * pair.code_distance:.2g} % and surfaces {1e3 * pair.chamfer_m:.2g} mm apart"
        for pair in pairs
        if pair.code_distance <= settings.duplicate_code or pair.chamfer_m <= settings.duplicate_m
    ]
    if rank < len(library):
        problems.append(f"the {len(library)} codes have only rank {rank}")
    elif condition > settings.largest_condition:
        problems.append(f"the codes' condition number is {condition:.2g}")
    return LibraryCheck(library.codes.shape[1], rank, condition, shapes, pairs, tuple(problems))


def library_pairs(decoder: ShapeDecoder, library: ShapeLibrary) -> tuple[ShapePair, ...]:
    """Compute the distances of all pairs of shapes, the nearest surfaces first.

    The Chamfer distance is the mean of both directions of |f_d(x | h_b)| over points x on surface
    a: no samples of b are needed, so the distance of equal surfaces is zero. Infinite where a shape
    has no surface.
    """
    prepared = PreparedLibrary(DecoderField(decoder), library)
    surfaces = prepared.surfaces
    distance = decoder.sdf(surfaces.points[:, None], library.codes).abs()
    one_way = torch.where(surfaces.valid[:, None], distance, torch.nan).nanmean(-1)
    chamfer = (0.5 * (one_way + one_way.T)).nan_to_num(torch.inf)
    codes = pairwise_distances(library.codes, library.codes) / library.codes.norm(dim=-1).mean()
    pairs = (
        ShapePair((library.names[a], library.names[b]), float(codes[a, b]), float(chamfer[a, b]))
        for a, b in combinations(range(len(library)), 2)
    )
    return tuple(sorted(pairs, key=lambda pair: pair.chamfer_m))


class BoxedShape(NamedTuple):
    """A shape code and the box of its surface.

    Attributes:
        code: (C,).
        lower: (3,) corner of the box, object frame, metres.
        upper: (3,) opposite corner.
    """

    code: Tensor
    lower: Tensor
    upper: Tensor

    @classmethod
    def of_library(cls, library: ShapeLibrary, k: int) -> BoxedShape:
        """Take the k-th shape of a library."""
        return cls(library.codes[k], library.lower[k], library.upper[k])

    @classmethod
    def of_code(cls, decoder: ShapeDecoder, code: Tensor) -> BoxedShape:
        """Find the box of a code (C,)."""
        boxes = shape_boxes(decoder, code[None])
        return cls(code, boxes.lower[0], boxes.upper[0])


class FitError(NamedTuple):
    """Errors of a decoded shape against a mesh, metres.

    Attributes:
        mean_m: of |f_d| over the mesh's surface.
        p95_m: 95 % quantile of it.
        quantile_m: the requested quantile of it.
        chamfer_m: Chamfer distance of both surfaces; infinite without a surface.
    """

    mean_m: float
    p95_m: float
    quantile_m: float
    chamfer_m: float


def fit_error(
    decoder: ShapeDecoder, shape: BoxedShape, mesh: trimesh.Trimesh, quantile: float, seed: int = 0
) -> FitError:
    """Compare a decoded shape with a mesh, metres, object frame."""
    rng = np.random.default_rng(seed)
    points = torch.from_numpy(surface_samples(mesh, _ERROR_SAMPLES, rng).points)
    distance = decoder.sdf(points.to(shape.code), shape.code).abs()
    ends = torch.quantile(distance, distance.new_tensor([0.95, quantile])).tolist()
    decoded = decoded_mesh(decoder, shape, IsosurfaceSettings(voxels=96))
    chamfer = math.inf
    if len(decoded.faces) > 0:
        samples = (surface_samples(m, _ERROR_SAMPLES, rng).points for m in (decoded, mesh))
        chamfer = sampled_chamfer(*samples)
    return FitError(float(distance.mean()), *ends, chamfer)


def decoded_mesh(
    decoder: ShapeDecoder, shape: BoxedShape, settings: IsosurfaceSettings
) -> trimesh.Trimesh:
    """Extract the surface of a shape, object frame, metres.

    It is empty where the shape has no surface in its box.
    """
    (mesh,) = extract_meshes(
        lambda points, _: decoder.sdf(points, shape.code),
        shape.lower[None],
        shape.upper[None],
        settings,
    )
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


def _checked(
    decoder: ShapeDecoder, library: ShapeLibrary, k: int, settings: LibraryQualitySettings
) -> CheckedShape:
    shape = BoxedShape.of_library(library, k)
    mesh = decoded_mesh(decoder, shape, IsosurfaceSettings(settings.voxels))
    empty = len(mesh.faces) == 0
    box = torch.stack([shape.lower, shape.upper]).cpu().numpy()
    off = np.inf if empty else np.abs(mesh.bounds - box).max()
    return CheckedShape(
        library.names[k],
        float(library.diameters[k]),
        math.nan if empty else float(mesh.volume),
        not empty and bool(mesh.is_watertight),
        float(off),
        len(library.symmetries[k]),
    )


def _problems(shape: CheckedShape, settings: LibraryQualitySettings) -> list[str]:
    if math.isnan(shape.volume_m3):
        return [f"{shape.name} has no surface inside its box"]
    problems = []
    if not (shape.watertight and math.isfinite(shape.volume_m3) and shape.volume_m3 > 0):
        problems.append(f"the mesh of {shape.name} is not a closed surface around a volume")
    if shape.box_error_m > settings.box_tolerance * shape.diameter_m:
        problems.append(
            f"the box of {shape.name} is {1e3 * shape.box_error_m:.1f} mm off its surface"
        )
    return problems


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
