"""Points around shapes with their true signed distances: what the shape decoder learns from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import trimesh
from torch import Tensor

from crisp_ros.data.meshes import signed_distance, surface_samples, watertight
from crisp_ros.network.decoder import ShapeDecoder

_NEAR_SIGMAS_M = (0.002, 0.006, 0.02)
_VOLUME_HALF_EDGE_M = 0.25


class SdfSamples(NamedTuple):
    """Points around shapes with their signed distances.

    The first third is on the surface, the second near it, the rest in a cube around the shape.

    Attributes:
        points: (K, P, 3) object frame, metres.
        distances: (K, P) metres, negative inside.
    """

    points: Tensor
    distances: Tensor


def sdf_samples(
    meshes: Sequence[trimesh.Trimesh], per_shape: int, rng: np.random.Generator
) -> SdfSamples:
    """Sample around each mesh, closed first where it is a scan with holes.

    Raises:
        MeshError: a mesh cannot be closed.
    """
    third = per_shape // 3
    all_points, all_distances = [], []
    for mesh in meshes:
        solid = watertight(mesh)
        surface = surface_samples(solid, third, rng).points
        spread = rng.choice(_NEAR_SIGMAS_M, (third, 1))
        near = surface_samples(solid, third, rng).points + rng.normal(0.0, 1.0, (third, 3)) * spread
        rest = per_shape - 2 * third
        half = np.maximum(np.abs(solid.bounds).max(0) * 1.3, 0.03)
        far = np.maximum(half, _VOLUME_HALF_EDGE_M)
        half = np.where(rng.random((rest, 1)) < 0.5, half, far)
        volume = rng.uniform(-1.0, 1.0, (rest, 3)) * half
        off = np.concatenate([near, volume])
        all_points.append(np.concatenate([surface, off]))
        all_distances.append(np.concatenate([np.zeros(third), signed_distance(solid, off)]))
    return SdfSamples(
        torch.from_numpy(np.stack(all_points)).float(),
        torch.from_numpy(np.stack(all_distances)).float(),
    )


def drawn(
    samples: SdfSamples, shapes: Tensor, counts: tuple[int, int, int], seeds: Sequence[int]
) -> SdfSamples:
    """Some of the points of each of B shapes, each drawn from a stream of its own.

    Args:
        samples: of K shapes.
        shapes: (B,) which.
        counts: points on the surface, near it, and in the cube.
        seeds: B of them.
    """
    total = samples.points.shape[1]
    third = total // 3
    bounds = ((0, third), (third, 2 * third), (2 * third, total))
    chosen = []
    for seed in seeds:
        stream = torch.Generator().manual_seed(int(seed))
        parts = zip(bounds, counts, strict=True)
        chosen.append(torch.cat([torch.randint(*b, (n,), generator=stream) for b, n in parts]))
    rows, columns = shapes.cpu()[:, None], torch.stack(chosen)
    return SdfSamples(samples.points[rows, columns], samples.distances[rows, columns])


def draw_shuffled(
    samples: SdfSamples, shapes: Tensor, counts: tuple[int, int, int], stream: torch.Generator
) -> SdfSamples:
    """Draw points of each of B shapes, in a random order that is the same for all shapes.

    Args:
        samples: of K shapes.
        shapes: (B,) which.
        counts: points on the surface, near it, and in the cube.
        stream: of random numbers, on the CPU.
    """
    total = samples.points.shape[1]
    third = total // 3
    bounds = ((0, third), (third, 2 * third), (2 * third, total))
    parts = [
        torch.randint(low, high, (len(shapes), count), generator=stream)
        for (low, high), count in zip(bounds, counts, strict=True)
    ]
    chosen = torch.cat(parts, dim=1)
    chosen = chosen[:, torch.randperm(chosen.shape[1], generator=stream)].to(shapes.device)
    rows = shapes[:, None]
    return SdfSamples(samples.points[rows, chosen], samples.distances[rows, chosen])


def keep_hardest(
    decoder: ShapeDecoder, codes: Tensor, drawn: SdfSamples, candidates: int
) -> SdfSamples:
    """Keep one of every `candidates` points: a random half, and those the decoder errs most on.

    Args:
        decoder: f_d.
        codes: (B, C) of the shapes.
        drawn: of these shapes, in random order.
        candidates: one keeps all points.
    """
    if candidates == 1:
        return drawn
    error = (decoder.sdf(drawn.points, codes) - drawn.distances).abs()
    kept = error.shape[1] // candidates
    error[:, : kept // 2] = torch.inf  # the order is random: these are a random half
    worst = error.topk(kept, dim=1).indices
    rows = torch.arange(len(error), device=error.device)[:, None]
    return SdfSamples(drawn.points[rows, worst], drawn.distances[rows, worst])
