"""Orientations that depth cannot tell apart: which of them an object has, and whether that is sure.

A motion that maps a shape onto itself, but not its print, leaves the certificate of eq. (12) as it
is. Here the print decides between such orientations; where it cannot, the estimate says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import degrees, radians
from typing import NamedTuple

import roma
import torch
from torch import Tensor

from crisp_ros.correction.appearance import CropView, PrintComparison
from crisp_ros.correction.certificate import Condition
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.symmetry_motions import SymmetryKind
from crisp_ros.correction.visibility import Images
from crisp_ros.geometry.se3 import invert, rotation_about

_NO_COLORS = "its colours are not known"
_FINE_RAD = tuple(map(radians, (-7.5, -5.0, -2.5, 2.5, 5.0, 7.5)))


@dataclass(frozen=True)
class OrientationSettings:
    """Settings of `resolve_orientations`.

    Attributes:
        same_rad: rotations within this angle of one another are the same orientation, radians.
        margin: by how much the correlation of the best orientation must exceed that of every other.
        least_correlation: of the best orientation.
        least_overall: correlation, with the part of the print that all orientations share.
        least_contrast: of what sets the orientations apart; a plain surface determines nothing.
        least_visible: points of the print that must be seen.
    """

    same_rad: float = radians(25.0)
    margin: float = 0.12
    least_correlation: float = 0.15
    least_overall: float = 0.25
    least_contrast: float = 0.07
    least_visible: int = 80


class Orientations(NamedTuple):
    """The orientations of B objects.

    Attributes:
        motions: (B, 4, 4) of the object frame, to be applied to poses T_object_camera and to the
            network's coordinates; the identity where the orientation stays.
        clear: the condition that the print, or the shape alone, determines the orientation.
        alternatives: B of (A, 4, 4) motions to orientations that look alike; none where clear.
    """

    motions: Tensor
    clear: Condition
    alternatives: tuple[Tensor, ...]


@torch.no_grad()
def resolve_orientations(
    library: PreparedLibrary,
    hypotheses: Hypotheses,
    views: Sequence[CropView],
    images: Images,
    rivals: Sequence[Tensor],
    settings: OrientationSettings | None = None,
) -> Orientations:
    """Choose among the orientations that depth cannot tell apart, by the print of the shapes.

    An orientation is clear where the print agrees with the image clearly better there than at all
    others. Elsewhere it stays as the network has it, as with a plain object, unless the print
    contradicts that: then the one that agrees best is taken.

    Args:
        library: the known shapes, with their colours.
        hypotheses: B of them.
        views: B crops of the objects.
        images: that the objects were seen in.
        rivals: (A_i, 4, 4) of each object, near symmetries that fit the depth as well.
        settings: see `OrientationSettings`.
    """
    settings = settings or OrientationSettings()
    T = hypotheses.T_object_camera
    found = []
    for i, index in enumerate(hypotheses.shapes.index.tolist()):
        if index < 0:
            found.append(_unclear(T[i], [], "the symmetries of a shape outside the library"))
            continue
        same = library.motions(index).of_kind(SymmetryKind.SAME_SHAPE)
        alike = torch.cat((same, rivals[i])).to(T)
        found.append(_choose_by_print(library, index, alike, T[i], views[i], images, settings))
    held = torch.tensor([choice.reason == "" for choice in found], device=T.device)
    margin = torch.tensor([choice.margin for choice in found], device=T.device)
    clear = Condition("orientation", held, margin, tuple(choice.reason for choice in found))
    motions = torch.stack([choice.motion for choice in found]) if found else T
    return Orientations(motions, clear, tuple(choice.alternatives for choice in found))


def add_ambiguity(
    covariance: Tensor, T_object_camera: Tensor, alternatives: Sequence[Tensor]
) -> Tensor:
    """Covariances of poses, with the spread of the orientations that look alike.

    Args:
        covariance: (B, 6, 6) of T_camera_object along the camera's axes, see `pose_covariance`.
        T_object_camera: (B, 4, 4) the poses.
        alternatives: B of (A, 4, 4) motions to orientations that look alike.
    """
    result = covariance.clone()
    for i, motions in enumerate(alternatives):
        if len(motions) == 0:
            continue
        pose = invert(T_object_camera[i].double())
        other = pose @ invert(motions.double())
        shift = other[:, :3, 3] - pose[:3, 3]
        rotation = roma.rotmat_to_rotvec(other[:, :3, :3] @ pose[:3, :3].T)
        apart = torch.cat((shift, rotation), dim=-1).to(covariance)
        result[i] = result[i] + apart.T @ apart / (len(motions) + 1)
    return result


class _Choice(NamedTuple):
    """The motion of one object, its alternatives, how clear it is, and why it is not."""

    motion: Tensor
    alternatives: Tensor
    margin: float
    reason: str


def _choose_by_print(
    library: PreparedLibrary,
    index: int,
    alike: Tensor,
    T_object_camera: Tensor,
    view: CropView,
    images: Images,
    settings: OrientationSettings,
) -> _Choice:
    """The choice among the pose of an object and motions of it that look alike to depth."""
    identity = torch.eye(4).to(T_object_camera)
    if len(alike) == 0:
        return _Choice(identity, alike, float("inf"), "")
    surface = library.printed_surface(index)
    if surface is None:
        # Nothing is known of the print, so that nothing is said of the spread of orientations.
        return _unclear(T_object_camera, alike, _NO_COLORS)._replace(alternatives=alike[:0])
    exact = library.motions(index).of_kind(SymmetryKind.EXACT).to(T_object_camera)
    candidates = torch.cat((identity[None], alike))
    comparison = PrintComparison(surface, T_object_camera, candidates, view, images)
    agreement = comparison.agreement(candidates)
    fine = _fine_motions(alike, candidates[agreement.correlation.argmax()])
    if len(fine) > 0:
        more = comparison.agreement(fine)
        candidates = torch.cat((candidates, fine))
        agreement = agreement.joined(more)
    best = int(agreement.correlation.argmax())
    others = _angles(candidates, candidates[best], exact) > settings.same_rad
    correlation = agreement.correlation
    runner_up = torch.where(others, correlation, -1.0).max()
    margin = float(correlation[best] - runner_up)
    readable = (
        float(correlation[best]) >= settings.least_correlation
        and float(agreement.overall[best]) >= settings.least_overall
        and float(agreement.contrast[best]) >= settings.least_contrast
        and agreement.visible >= settings.least_visible
    )
    if readable and margin >= settings.margin:
        return _Choice(candidates[best], alike[:0], margin, "")
    chosen = candidates[0]
    possible = torch.ones_like(others)
    if readable:
        possible = correlation >= correlation[best] - settings.margin
        if not possible[0]:
            chosen = candidates[best]  # the print contradicts the network
    apart = possible & (_angles(candidates, chosen, exact) > settings.same_rad)
    # Alternatives are motions of the pose that is taken.
    return _unclear(identity, candidates[apart] @ invert(chosen), "", margin, chosen)


def _unclear(
    T_object_camera: Tensor,
    alternatives: Tensor | Sequence[Tensor],
    cause: str,
    margin: float = 0.0,
    motion: Tensor | None = None,
) -> _Choice:
    """The choice of a motion, none by default, with the alternatives that the reason names."""
    identity = torch.eye(4).to(T_object_camera)
    motion = identity if motion is None else motion
    if len(alternatives) == 0:
        nothing = identity[None][:0]
        return _Choice(motion, nothing, margin, f"orientation not known: {cause or 'no print'}")
    angles = _angles(alternatives, identity, identity[None])
    widest = degrees(float(angles.max()))
    if len(alternatives) == 1:
        reason = f"two orientations {widest:.0f} degrees apart look alike"
    else:
        reason = f"{len(alternatives) + 1} orientations up to {widest:.0f} degrees apart look alike"
    return _Choice(motion, alternatives, margin, reason + (f": {cause}" if cause else ""))


def _angles(motions: Tensor, reference: Tensor, exact: Tensor) -> Tensor:
    """Angles (M,) between motions (M, 4, 4) and a reference (4, 4), up to exact symmetries."""
    equal = (exact @ reference)[:, :3, :3]
    return roma.rotmat_geodesic_distance(motions[:, None, :3, :3], equal).amin(-1)


def _fine_motions(alike: Tensor, coarse: Tensor) -> Tensor:
    """Motions (F, 4, 4) between the samples of a continuous symmetry, around a coarse one (4, 4).

    Continuous symmetries are sampled every ten degrees; a shape without one has no such motions.
    """
    rotvec = roma.rotmat_to_rotvec(alike[:, :3, :3])
    angle = rotvec.norm(dim=-1)
    smallest = int(angle.argmin())
    if float(angle[smallest]) > radians(15.0):
        return alike[:0]
    axis = rotvec[smallest] / angle[smallest]
    rotation, shift = alike[smallest, :3, :3], alike[smallest, :3, 3]
    identity = torch.eye(3).to(alike)
    centre = torch.linalg.pinv(identity - rotation, rtol=1e-3) @ shift
    rotation = roma.rotvec_to_rotmat(torch.tensor(_FINE_RAD).to(alike)[:, None] * axis)
    return rotation_about(rotation, centre) @ coarse
