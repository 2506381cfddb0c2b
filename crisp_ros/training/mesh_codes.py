"""Shape codes of new meshes for a decoder that stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
import trimesh
from torch import Tensor

from crisp_ros.network.decoder import ShapeDecoder

from .sdf_samples import SdfSamples, sdf_samples
from .shape_codes import ShapeCodeSettings, fit_shape_codes


@dataclass(frozen=True)
class MeshCodeSettings:
    """Settings of `fit_mesh_code`.

    Attributes:
        samples: points with signed distances drawn around the mesh.
        starts: initial codes tried: the best ones known, and their mean.
        trial_steps: steps of each before the best is chosen.
        fit: of the chosen one; the trials use it too, with fewer steps.
    """

    samples: int = 30_000
    starts: int = 4
    trial_steps: int = 200
    fit: ShapeCodeSettings = field(
        default_factory=lambda: ShapeCodeSettings(
            steps=1000,
            learning_rate=1e-2,
            surface_points=192,
            near_points=192,
            volume_points=96,
            candidates=2,
        )
    )


class MeshCode(NamedTuple):
    """A fitted code.

    Attributes:
        code: (C,).
        start: row of the given codes that it was fitted from; None for their mean.
    """

    code: Tensor
    start: int | None


def fit_mesh_code(
    decoder: ShapeDecoder,
    known_codes: Tensor,
    mesh: trimesh.Trimesh,
    settings: MeshCodeSettings | None = None,
    seed: int = 0,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> MeshCode:
    """Minimise the SDF loss of eq. (21) over the code alone, from several initial codes.

    Thin walls are only found from a code that has some, so the codes of known shapes are tried:
    those whose distances are nearest to the mesh's, and the mean of all.

    Args:
        decoder: f_d, not changed.
        known_codes: (K, C), K >= 1.
        mesh: closed, in the object frame, metres.
        settings: see `MeshCodeSettings`.
        seed: of the samples and batches.
        on_step: called now and then with the number of steps done and the total.

    Raises:
        MeshError: the mesh cannot be closed.
    """
    settings = settings or MeshCodeSettings()
    frozen = copy.deepcopy(decoder).requires_grad_(False)
    samples = sdf_samples([mesh], settings.samples, np.random.default_rng(seed))
    mean = known_codes.mean(dim=0, keepdim=True)
    nearest = sdf_error(frozen, known_codes, samples).argsort()[: settings.starts - 1]
    starts = torch.cat([mean, known_codes[nearest]])
    several = SdfSamples(
        samples.points.expand(len(starts), -1, -1), samples.distances.expand(len(starts), -1)
    )
    total = settings.trial_steps + settings.fit.steps

    def after(earlier: int) -> Callable[[int, float], None]:
        return lambda step, _: on_step(earlier + step, total)

    trial = replace(settings.fit, steps=settings.trial_steps)
    tried = fit_shape_codes(frozen, starts, several, trial, seed, train="codes", report=after(0))
    best = int(sdf_error(frozen, tried, samples).argmin())
    code = fit_shape_codes(
        frozen,
        tried[best][None],
        samples,
        settings.fit,
        seed,
        train="codes",
        report=after(settings.trial_steps),
    )[0]
    on_step(total, total)
    return MeshCode(code, None if best == 0 else int(nearest[best - 1]))


def sdf_error(decoder: ShapeDecoder, codes: Tensor, samples: SdfSamples) -> Tensor:
    """Mean |f_d - sdf| (K,) on and near the surface, where certificate and mesher look."""
    near = slice(0, 2 * (samples.points.shape[1] // 3))
    decoded = torch.cat([decoder.sdf(samples.points[:, near], code[None]) for code in codes])
    return (decoded - samples.distances[:, near]).abs().mean(dim=-1)
