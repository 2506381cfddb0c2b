"""Orientations that depth cannot tell apart: which of them an object has, and whether that is sure.

A motion that maps a shape onto itself, but not its print, leaves the certificate of eq. (12) as it
is. Here the print decides between such orientations; where it cannot, the estimate says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import degrees, radians
from typing import NamedTuple

import numpy as np
import roma
import torch
from numpy.typing import NDArray
from torch import Tensor

from crisp_ros.correction.appearance import CropView, PrintAgreement, PrintComparison
from crisp_ros.correction.certificate import Condition
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.symmetry_search import Rivals
from crisp_ros.correction.visibility import Images
from crisp_ros.geometry.cuda_graphs import run_captured
from crisp_ros.geometry.fixed_shapes import has_fixed_shapes
from crisp_ros.geometry.se3 import invert
from crisp_ros.observation.frame import Camera

_NO_COLORS = "its colours are not known"
_NOT_CONFIRMED = "orientation not known: neither coordinates nor print confirm it"


@dataclass(frozen=True)
class OrientationSettings:
    """Settings of `resolve_orientations`.

    Attributes:
        same_rad: rotations within this angle of one another are the same orientation, radians.
        margin: by how much the correlation of the best orientation must exceed that of every other.
        likelier_margin: by how much it must exceed that of the network's orientation, to be taken
            in its place without being sure.
        least_correlation: of the best orientation; less is found by chance, too.
        least_contrast: of what sets the orientations apart; a plain surface determines nothing.
        least_visible: points of the print that must be seen.
    """

    same_rad: float = radians(25.0)
    margin: float = 0.06
    likelier_margin: float = 0.02
    least_correlation: float = 0.25
    least_contrast: float = 0.12
    least_visible: int = 40


class Orientations(NamedTuple):
    """The orientations of B objects.

    Attributes:
        motions: (B, 4, 4) of the object frame, to be applied to poses T_object_camera and to the
            network's coordinates; the identity where the orientation stays.
        clear: the condition that the print, or the shape alone, determines the orientation.
        alternatives: B of (A, 4, 4) motions to orientations that look alike; none where clear.
        moved: objects whose motion is not the identity.
    """

    motions: Tensor
    clear: Condition
    alternatives: tuple[Tensor, ...]
    moved: tuple[int, ...]

    def with_print_needed(self, rows: Sequence[int]) -> Orientations:
        """The same, but clear for some objects only where their print has decided.

        Of an object that was found by depth alone, other poses than the motions of its shape may
        look alike, too.
        """
        held, reasons = self.clear.held.clone(), list(self.clear.reasons)
        for row in rows:
            if bool(held[row] & self.clear.value[row].isinf()):
                held[row], reasons[row] = False, _NOT_CONFIRMED
        return self._replace(clear=self.clear._replace(held=held, reasons=tuple(reasons)))


@torch.no_grad()
def resolve_orientations(
    library: PreparedLibrary,
    hypotheses: Hypotheses,
    views: Sequence[CropView],
    images: Images,
    rivals: Sequence[Rivals],
    settings: OrientationSettings | None = None,
    indices: Sequence[int] | None = None,
) -> Orientations:
    """Choose among the orientations that depth cannot tell apart, by the print of the shapes.

    An orientation is clear where the print agrees with the image clearly better there than at all
    others. Elsewhere it stays as the network has it, as with a plain object, unless another one
    agrees better than that: then the one that agrees best is taken, without being sure.

    Args:
        library: the known shapes, with their colours.
        hypotheses: B of them.
        views: B crops of the objects.
        images: that the objects were seen in.
        rivals: of each object.
        settings: see `OrientationSettings`.
        indices: B, the shapes in the library, if they are at hand on the host.
    """
    settings = settings or OrientationSettings()
    T = hypotheses.T_object_camera
    if indices is None:
        indices = hypotheses.shapes.index.tolist()
    identity = torch.eye(4, dtype=T.dtype, device=T.device)
    found: list[_Comparison | _Choice] = []
    causes = [""] * len(indices)
    for i, index in enumerate(indices):
        if index < 0:
            reason = "orientation not known: the symmetries of a shape outside the library"
            found.append(_Choice(identity, False, identity[None][:0], 0.0, reason))
            continue
        motions, possible = rivals[i]
        if not has_fixed_shapes(T):
            kept = possible.nonzero().squeeze(-1)
            motions, possible = motions[kept], possible[kept]
        alike = Rivals(motions.to(T), possible)
        if len(motions) == len(library.orientations(index).same) == 0:
            found.append(_Choice(identity, False, identity[None][:0], torch.inf, ""))
            continue
        causes[i] = "" if library.printed_surface(index) is not None else _NO_COLORS
        found.append(_compare(library, index, alike, T[i], views[i], images, settings))
    choices = _choices(found, causes)
    margin = [choice.margin for choice in choices]
    held = [choice.reason == "" for choice in choices]
    clear = Condition(
        "orientation",
        torch.tensor(held, device=T.device),
        torch.tensor(margin, device=T.device),
        tuple(choice.reason for choice in choices),
    )
    motions = torch.stack([choice.motion for choice in choices]) if choices else T
    moved = tuple(i for i, choice in enumerate(choices) if choice.is_moved)
    return Orientations(motions, clear, tuple(choice.alternatives for choice in choices), moved)


def add_ambiguity(
    covariance: Tensor, T_object_camera: Tensor, alternatives: Sequence[Tensor]
) -> Tensor:
    """Covariances of poses, with the spread of the orientations that look alike.

    Args:
        covariance: (B, 6, 6) of T_camera_object along the camera's axes, see `pose_covariance`.
        T_object_camera: (B, 4, 4) the poses.
        alternatives: B of (A, 4, 4) motions to orientations that look alike.
    """
    counts = [len(motions) for motions in alternatives]
    most = max(counts, default=0)
    if most == 0:
        return covariance.clone()
    # Padded with the identity to one of a few sizes, each with a CUDA graph of its own.
    most = 1 << (most - 1).bit_length()
    stay = torch.eye(4, dtype=T_object_camera.dtype, device=T_object_camera.device)
    every = torch.cat((stay[None], *(motions.to(stay) for motions in alternatives)))
    starts = accumulate(counts, initial=1)
    places = [
        [start + k if k < count else 0 for k in range(most)]
        for start, count in zip(starts, counts, strict=False)
    ]
    place = torch.tensor(places, device=every.device)
    return run_captured(_with_spread, (), covariance, T_object_camera, every[place], place > 0)[0]


def _with_spread(
    covariance: Tensor, T_object_camera: Tensor, motions: Tensor, counted: Tensor
) -> tuple[Tensor]:
    """Covariances with the spread of poses moved by motions (B, A, 4, 4) that count, (B, A)."""
    pose = invert(T_object_camera.double())[:, None]
    other = pose @ invert(motions.double())
    shift = other[..., :3, 3] - pose[..., :3, 3]
    rotation = roma.rotmat_to_rotvec(other[..., :3, :3] @ pose[..., :3, :3].transpose(-1, -2))
    apart = torch.cat((shift, rotation), dim=-1).to(covariance)
    apart = torch.where(counted[..., None], apart, 0.0)
    spread = apart.transpose(-1, -2) @ apart
    return (covariance + spread / (1 + counted.sum(-1))[:, None, None],)


class _Choice(NamedTuple):
    """The motion of one object, whether it is one, its alternatives, and how clear it is."""

    motion: Tensor
    is_moved: bool
    alternatives: Tensor
    margin: float
    reason: str


class _Comparison(NamedTuple):
    """The comparison of one object's orientations on the device.

    Attributes:
        motion: (4, 4) to the orientation that is taken.
        alternatives: (C, 4, 4) motions from there.
        numbers: (3 + 2 C,) all that the host needs to know: whether the print decides, whether the
            motion is one, the margin; which alternatives look alike and are other orientations;
            and their angles, radians.
    """

    motion: Tensor
    alternatives: Tensor
    numbers: Tensor

    @classmethod
    def unpacked(cls, row: Tensor) -> _Comparison:
        """A comparison from its row of `_as_row`."""
        count = (len(row) - 19) // 18
        motion, alternatives, numbers = row.split((16, 16 * count, 3 + 2 * count))
        return cls(motion.view(4, 4), alternatives.view(count, 4, 4), numbers)


def _compare(
    library: PreparedLibrary,
    index: int,
    rivals: Rivals,
    T_object_camera: Tensor,
    view: CropView,
    images: Images,
    settings: OrientationSettings,
) -> _Comparison:
    """The choice among the pose of an object and motions of it that look alike to depth."""
    # One object is a batch of one, so that its graph serves all objects of the same shape.
    constants = library, index, settings, images.camera
    rows = rivals.motions, rivals.possible, T_object_camera, *view
    shared = images.depth, images.labels
    found = run_captured(_comparison, constants, *(part[None] for part in rows), shared=shared)
    return _Comparison.unpacked(found[0][0])


def _comparison(
    library: PreparedLibrary,
    index: int,
    settings: OrientationSettings,
    camera: Camera,
    depth: Tensor,
    labels: Tensor,
    *rows: Tensor,
) -> tuple[Tensor]:
    motions, possible, T_object_camera, crop, box, label = (part[0] for part in rows)
    identity = torch.eye(4, dtype=motions.dtype, device=motions.device)
    orientations = library.orientations(index)
    exact, same = orientations.exact.to(motions), orientations.same.to(motions)
    candidates = torch.cat((identity[None], same, motions))
    possible = torch.cat((possible.new_ones(1 + len(same)), possible))
    surface = library.printed_surface(index)
    if surface is None or len(candidates) == 1:
        others = possible & (torch.arange(len(possible), device=possible.device) > 0)
        clear = ~others.any(0, keepdim=True)
        margin = torch.where(clear, torch.inf, identity[0, 1:2])
        verdict = torch.cat((clear.to(margin), torch.zeros_like(margin), margin))
        return _as_row(identity, candidates, others, verdict)
    comparison = PrintComparison(
        surface,
        T_object_camera,
        candidates,
        CropView(crop, box, label),
        Images(depth, labels, camera),
        possible,
    )
    agreement = comparison.agreement()
    if len(orientations.fine) > 0:
        # The second best is refined as well, or the best would win by its refinement alone.
        best = _best(agreement.correlation, possible)
        others = possible & (_angles(candidates, candidates[best][0], exact) > settings.same_rad)
        second = _best(agreement.correlation, others)
        coarse = candidates.index_select(0, torch.cat((best, second)))
        fine = (orientations.fine.to(motions) @ coarse[:, None]).flatten(0, 1)
        has_second = others.any(0, keepdim=True)
        kept = torch.cat((torch.ones_like(has_second), has_second))
        agreement = agreement.joined(comparison.agreement(fine))
        candidates = torch.cat((candidates, fine))
        possible = torch.cat((possible, kept.repeat_interleave(len(fine) // 2)))
    return _chosen(agreement, candidates, possible, exact, settings)


def _chosen(
    agreement: PrintAgreement,
    candidates: Tensor,
    possible: Tensor,
    exact: Tensor,
    settings: OrientationSettings,
) -> tuple[Tensor]:
    """The orientation that the agreement of the print decides for."""
    correlation = agreement.correlation
    best = _best(correlation, possible)
    motion = candidates.index_select(0, best)[0]
    alone = possible.sum(0, keepdim=True) == 1
    others = possible & (_angles(candidates, motion, exact) > settings.same_rad)
    highest = correlation.index_select(0, best)
    margin = highest - torch.where(others, correlation, -1.0).max()
    margin = torch.where(alone, torch.inf, margin)
    readable = (
        (highest >= settings.least_correlation)
        & (agreement.contrast.index_select(0, best) >= settings.least_contrast)
        & (agreement.visible >= settings.least_visible)
    )
    decided = alone | (readable & (margin >= settings.margin))
    possible = possible & ~(readable & (correlation < highest - settings.margin))
    likelier = readable & (correlation[:1] < highest - settings.likelier_margin)
    moved = decided | likelier
    moved = moved & (best > 0) & ~alone
    motion = torch.where(moved[:, None], motion, candidates[0])
    apart = possible & ~decided & (_angles(candidates, motion, exact) > settings.same_rad)
    # Alternatives are motions of the pose that is taken.
    verdict = torch.cat((decided.to(margin), moved.to(margin), margin))
    return _as_row(motion, candidates @ invert(motion), apart, verdict)


def _as_row(motion: Tensor, alternatives: Tensor, apart: Tensor, verdict: Tensor) -> tuple[Tensor]:
    """All of a comparison in one row (1, 19 + 18 C), as each result of a graph costs a copy."""
    identity = torch.eye(3, dtype=motion.dtype, device=motion.device)
    rotations = alternatives[:, :3, :3]
    angles = roma.rotmat_geodesic_distance(rotations, identity.expand_as(rotations))
    parts = motion.flatten(), alternatives.flatten(), verdict, apart.to(angles), angles
    return (torch.cat(parts)[None],)


def _best(correlation: Tensor, possible: Tensor) -> Tensor:
    """The index (1,) of the possible candidate with the highest correlation."""
    return correlation.masked_fill(~possible, -2.0).argmax()[None]


def _choices(found: Sequence[_Comparison | _Choice], causes: Sequence[str]) -> list[_Choice]:
    """The choices with the reasons why they are not clear, after one transfer for all objects."""
    compared = [part for part in found if isinstance(part, _Comparison)]
    numbers = iter(())
    if compared:
        sizes = [len(part.numbers) for part in compared]
        numbers = iter(torch.cat([part.numbers for part in compared]).cpu().split(sizes))
    return [
        _choice(part, next(numbers).numpy(), cause) if isinstance(part, _Comparison) else part
        for part, cause in zip(found, causes, strict=True)
    ]


def _choice(found: _Comparison, numbers: NDArray[np.floating], cause: str) -> _Choice:
    (decided, moved, margin), (apart, angles) = numbers[:3], numbers[3:].reshape(2, -1)
    motion, alternatives = found.motion, found.alternatives
    rows = np.flatnonzero(apart)
    if decided:
        return _Choice(motion, bool(moved), alternatives[:0], float(margin), "")
    others = alternatives[torch.from_numpy(rows).to(alternatives.device)]
    if len(rows) == 0:
        reason = "orientation not known: no print"
        return _Choice(motion, bool(moved), others, float(margin), reason)
    widest = degrees(angles[rows].max())
    if len(rows) == 1:
        reason = f"two orientations {widest:.0f} degrees apart look alike"
    else:
        reason = f"{len(rows) + 1} orientations up to {widest:.0f} degrees apart look alike"
    if cause:
        # Nothing is known of the print, so that nothing is said of the spread of orientations.
        reason, others = f"{reason}: {cause}", others[:0]
    return _Choice(motion, bool(moved), others, float(margin), reason)


def _angles(motions: Tensor, reference: Tensor, exact: Tensor) -> Tensor:
    """Angles (M,) between motions (M, 4, 4) and a reference (4, 4), up to exact symmetries."""
    equal = (exact @ reference)[:, :3, :3]
    return roma.rotmat_geodesic_distance(motions[:, None, :3, :3], equal).amin(-1)
