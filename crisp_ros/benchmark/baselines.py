"""Plain restatements of how the authors' released code solves, to measure our solvers against.

Written in our own words from a reading of that code; the structure is theirs, the parts are ours:
the same decoder, closed-form alignment, quadratic program and triangulation as our solvers use, so
that what is compared is the way to the answer. Where the released code leaves a choice, the cheaper
one is taken: parameters of the decoder carry no gradient, nothing is copied to a GPU and back, and
the quadratic program is not compiled again for each object.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.geometry.marching_cubes import triangulate
from crisp_ros.geometry.registration import align
from crisp_ros.geometry.se3 import from_rotation_translation, transform
from crisp_ros.geometry.simplex import project
from crisp_ros.geometry.simplex_qp import minimise
from crisp_ros.network.decoder import ShapeDecoder

_SAMPLE = 5  # correspondences of a hypothesis
_CONFIDENCE = 0.99


@dataclass(frozen=True)
class BaselineSettings:
    """The released code's values for YCBV, but for `shape_rate`.

    Attributes:
        pose_iterations: of Adam on the change of Z.
        pose_rate: step size of Adam on the change of Z, metres.
        hypotheses: maximum number in each robust alignment, which every iteration repeats.
        depth_weight: weight of the aligned depth in the pose objective.
        pnc_weight: weight of the corrected coordinates in the pose objective.
        clip: quantile at which the squared distances are clipped.
        shape_iterations: of Adam on the coefficients.
        shape_rate: step size of Adam on the coefficients, as in the paper.
        surface_weight: weight of the points on the surface in the shape objective.
        empty_weight: weight of the grid's points off the surface, if a grid is given.
        grid_edge_m: edge length of the grid's cube.
        voxel_chunk: number of a mesh's grid points that are decoded at once.
    """

    pose_iterations: int = 50
    pose_rate: float = 1e-3
    hypotheses: int = 50
    depth_weight: float = 10.0
    pnc_weight: float = 1.0
    clip: float = 0.9
    shape_iterations: int = 25
    shape_rate: float = 1e-2
    surface_weight: float = 3e3
    empty_weight: float = 1e2
    grid_edge_m: float = 0.5
    voxel_chunk: int = 64**3


def baseline_alignment(
    points: Tensor, pnc: Tensor, hypotheses: int, generator: torch.Generator
) -> Tensor:
    """Poses T_object_camera (B, 4, 4) from a RANSAC loop and a fit to the inliers.

    The inlier distance is a tenth of the diameter of the predicted coordinates. The loop stops when
    a hypothesis without outliers was drawn with 99 % probability for every object. Only the last
    fit is differentiable.

    Args:
        points: (B, N, 3) camera frame, metres, all of them valid.
        pnc: (B, N, 3) object frame, metres.
        hypotheses: maximum number of hypotheses.
        generator: random generator of the samples.
    """
    batch, count, _ = points.shape
    with torch.no_grad():
        radius = (pnc - pnc.mean(1, keepdim=True)).norm(dim=-1).amax(-1, keepdim=True)
        threshold = 0.1 * 2 * radius
        inliers = torch.zeros(batch, count, device=points.device)
        inliers[:, :_SAMPLE] = 1.0
        ratio = points.new_zeros(batch)
        rows = torch.arange(batch, device=points.device)[:, None]
        for tried in range(1, hypotheses + 1):
            drawn = torch.randint(count, (batch, _SAMPLE), generator=generator).to(points.device)
            fit = align(points[rows, drawn], pnc[rows, drawn], torch.ones_like(pnc[rows, drawn, 0]))
            moved = points @ fit.rotation.transpose(-1, -2) + fit.translation[:, None]
            near = ((moved - pnc).norm(dim=-1) < threshold).to(points.dtype)
            better = near.mean(-1) > ratio
            ratio = torch.where(better, near.mean(-1), ratio)
            inliers = torch.where(better[:, None], near, inliers)
            if bool((1 - (1 - ratio**_SAMPLE) ** tried > _CONFIDENCE).all()):
                break
    fit = align(points, pnc, inliers)
    return from_rotation_translation(fit.rotation, fit.translation)


def baseline_z(
    decoder: ShapeDecoder,
    points: Tensor,
    pnc: Tensor,
    codes: Tensor,
    settings: BaselineSettings | None = None,
    seed: int = 0,
) -> Tensor:
    """Poses T_object_camera (B, 4, 4) by the pose corrector of single frames.

    Adam optimises a change of every coordinate. Each iteration repeats the robust alignment and
    decodes all points twice with gradients: the aligned depth and the corrected coordinates. All
    objects get the same number of iterations; the result is the last iterate.

    Args:
        decoder: f_d.
        points: (B, N, 3) camera frame, metres, all of them valid.
        pnc: (B, N, 3) object frame, metres.
        codes: (B, C).
        settings: see `BaselineSettings`.
        seed: of the random hypotheses.
    """
    settings = settings or BaselineSettings()
    generator = torch.Generator().manual_seed(seed)
    frozen = _without_parameter_gradients(decoder)
    with torch.enable_grad():
        first = baseline_alignment(points, pnc, settings.hypotheses, generator)
        start = transform(first, points).detach()
        change = torch.zeros_like(start, requires_grad=True)
        optimiser = torch.optim.Adam([change], lr=settings.pose_rate)
        for _ in range(settings.pose_iterations):
            z = start + change
            T = baseline_alignment(points, z, settings.hypotheses, generator)
            square = frozen(transform(T, points), codes).square()
            limit = torch.quantile(square, settings.clip, dim=-1, keepdim=True)
            depth_term = torch.minimum(square, limit).mean()
            pnc_term = frozen(z, codes).abs().mean()
            loss = settings.depth_weight * depth_term + settings.pnc_weight * pnc_term
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        z = (start + change).detach()
    return baseline_alignment(points, z, settings.hypotheses, generator)


def baseline_h(
    decoder: ShapeDecoder,
    points: Tensor,
    codes: Tensor,
    library_codes: Tensor,
    grid_samples: int = 0,
    settings: BaselineSettings | None = None,
) -> Tensor:
    """Codes (B, C) by the projected gradient of the shape corrector, one object after the other.

    Adam optimises the library's coefficients, starting from unconstrained least squares; every step
    is projected onto the simplex. The result is the last iterate.

    Args:
        decoder: f_d.
        points: (B, N, 3) object frame, metres, all of them valid.
        codes: (B, C) initial codes.
        library_codes: (K, C).
        grid_samples: points along each edge of the cubic grid of points off the surface; 0 for no
            grid (the released code decodes 64 in every iteration for YCBV).
        settings: see `BaselineSettings`.
    """
    settings = settings or BaselineSettings()
    frozen = _without_parameter_gradients(decoder)
    half = settings.grid_edge_m / 2
    steps = torch.linspace(-half, half, grid_samples, device=points.device)
    grid = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), dim=-1).reshape(-1, 3)
    found = []
    for z, code in zip(points, codes, strict=True):
        c = torch.linalg.lstsq(library_codes.T, code[:, None]).solution[:, 0].requires_grad_(True)
        optimiser = torch.optim.Adam([c], lr=settings.shape_rate)
        for _ in range(settings.shape_iterations):
            with torch.enable_grad():
                mixed = c @ library_codes
                loss = settings.surface_weight * frozen(z, mixed).abs().mean()
                if grid_samples > 0:
                    empty = torch.exp(-100 * frozen(grid, mixed).abs()).mean()
                    loss = loss + settings.empty_weight * empty
                optimiser.zero_grad()
                loss.backward()
            optimiser.step()
            with torch.no_grad():
                c.copy_(project(c))
        found.append((c @ library_codes).detach())
    return torch.stack(found)


class BaselineShape(NamedTuple):
    """Shapes of B objects.

    Attributes:
        coefficients: (B, K), solution of the quadratic program.
        chosen: (B,) index of the largest coefficient.
    """

    coefficients: Tensor
    chosen: Tensor


@torch.no_grad()
def baseline_lsq(decoder: ShapeDecoder, points: Tensor, library_codes: Tensor) -> BaselineShape:
    """Shapes by the least squares of the shape corrector, one object after the other.

    The matrix of distances is decoded column by column, with all points in one pass.

    Args:
        decoder: f_d.
        points: (B, N, 3) object frame, metres, all of them valid.
        library_codes: (K, C).
    """
    coefficients = []
    for z in points:
        columns = [decoder(z, code).cpu() for code in library_codes]
        F = torch.stack(columns, dim=-1).double()
        coefficients.append(minimise((F.T @ F)[None]).coefficients[0].float())
    found = torch.stack(coefficients)
    return BaselineShape(found, found.argmax(-1))


@torch.no_grad()
def baseline_mesh(
    sdf: Callable[[Tensor, Tensor], Tensor],
    code: Tensor,
    lower: Tensor,
    upper: Tensor,
    voxels: int = 64,
    margin: float = 0.05,
    settings: BaselineSettings | None = None,
) -> TriangleMesh:
    """The surface of one shape, object frame, metres, from a decoded cube of points.

    The cube contains all grid points of `extract_meshes` with the same voxels and margin. The grid
    of the released code is sheared; this one is not.

    Args:
        sdf: f_d, from points (M, 3) and a code (C,) to distances (M,).
        code: (C,).
        lower: (3,) lower corner of the shape's box, object frame, metres.
        upper: (3,) upper corner of the box.
        voxels: along each edge of the cube.
        margin: between box and cube at each end, as a share of the box's longest edge.
        settings: see `BaselineSettings`.
    """
    settings = settings or BaselineSettings()
    edge = float((upper - lower).max()) * (1 + 2 * margin) / voxels
    origin = (lower + upper) / 2 - edge * voxels / 2
    ticks = torch.arange(voxels + 1, device=code.device, dtype=code.dtype)
    index = torch.stack(torch.meshgrid(ticks, ticks, ticks, indexing="ij"), dim=-1).reshape(-1, 3)
    values = [
        sdf(chunk, code).cpu() for chunk in (origin + edge * index).split(settings.voxel_chunk)
    ]
    block = torch.cat(values).reshape((voxels + 1,) * 3).numpy()
    vertices, faces = triangulate(block)
    return TriangleMesh((origin.cpu().numpy() + edge * vertices).astype(np.float32), faces)


def _without_parameter_gradients(decoder: ShapeDecoder) -> ShapeDecoder:
    """Return a copy of the decoder that computes no gradients of its parameters."""
    return copy.deepcopy(decoder).requires_grad_(False)
