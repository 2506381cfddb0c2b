"""Motions that map a shape onto itself: exactly, but for its print, or but for a part of it.

A network that misreads such a motion gives coordinates that agree with one another and with nearly
all of the depth.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import roma
import torch
from numpy.typing import NDArray
from torch import Tensor

from crisp_ros.correction.correspondences import Correspondences, Shapes
from crisp_ros.correction.pose_lm import PoseLmSettings, refine_pose
from crisp_ros.correction.residuals import ANY_FALL, geman_mcclure
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.geometry.cuda_graphs import run_captured
from crisp_ros.geometry.se3 import invert, rotation_about, transform
from crisp_ros.geometry.symmetry import rotational_symmetries

_TRIED_RAD = tuple(map(math.radians, (60.0, 90.0, 120.0, 180.0)))
_FULL_CIRCLE_RAD = tuple(
    angle for angle in map(math.radians, range(30, 331, 15)) if angle not in _TRIED_RAD
)
_FULL_CIRCLE = 3  # of the first rotations that must fit for all others to be tried
_NEAR_M = 4e-3  # a surface point that comes so near to the surface has stayed in place
_MOST = 0.75  # share of the surface that must stay
_OFF_M = 8e-3  # far more than the error of the decoder
_LEAST = 0.02  # share of the surface that must come so far off, or depth could not tell the motion
_APART_RAD = math.radians(12.0)  # between the rotations of two motions
_LEAST_RAD = math.radians(30.0)  # smaller rotations are left to the pose solvers
_FIT = PoseLmSettings(
    evaluations=13, points=96, robust_scale_m=3e-3, ray_offsets_m=(), move=ANY_FALL
)
_SAME_SHAPE_M = 2.5e-3  # mean distance of the moved surface; decoded surfaces are little better
_CERTIFIED_M, _CERTIFIED_SHARE = 0.01, 0.98  # p and eps of a certificate that sees no difference
_FINE_RAD = tuple(map(math.radians, (-7.5, -5.0, -2.5, 2.5, 5.0, 7.5)))
_CONTINUOUS_RAD = math.radians(15.0)  # continuous symmetries are sampled every ten degrees
_EQUAL_RAD = math.radians(4.0)  # rotations by less from one another are the same symmetry


class SymmetryKind(enum.IntEnum):
    """Kind of a symmetry, by what its motion preserves.

    Attributes:
        EXACT: shape and print.
        SAME_SHAPE: the shape, to within the certificate, but not the print.
        NEAR: most of the shape, except for a part such as a handle.
    """

    EXACT = 0
    SAME_SHAPE = 1
    NEAR = 2


class SymmetryMotions(NamedTuple):
    """The motions of the object frame that map a shape onto itself, the identity first.

    Attributes:
        transforms: (M, 4, 4).
        kinds: (M,) long, see `SymmetryKind`; ascending.
    """

    transforms: Tensor
    kinds: Tensor

    def of_kind(self, kind: SymmetryKind) -> Tensor:
        """The motions (M', 4, 4) of one kind."""
        return self.transforms[self.kinds == kind]

    def up_to(self, kind: SymmetryKind) -> Tensor:
        """The motions (M', 4, 4) of this kind and of the stricter ones, a group."""
        return self.transforms[self.kinds <= kind]


class OrientationMotions(NamedTuple):
    """The motions among which the print of a shape decides.

    Attributes:
        exact: (E, 4, 4) that leave the print in place, too.
        same: (S, 4, 4) that leave the shape in place.
        fine: (F, 4, 4) between the samples of a continuous symmetry; none without one.
        axis: (3,) direction of the axis of a continuous symmetry; zero without one.
        centre: (3,) a point on the axis.
    """

    exact: Tensor
    same: Tensor
    fine: Tensor
    axis: Tensor
    centre: Tensor


def orientation_motions(motions: SymmetryMotions) -> OrientationMotions:
    """The motions among which the print of a shape decides, of all its symmetries."""
    same = motions.of_kind(SymmetryKind.SAME_SHAPE)
    exact = motions.of_kind(SymmetryKind.EXACT)
    nowhere = same.new_zeros(3)
    if len(same) == 0:
        return OrientationMotions(exact, same, same, nowhere, nowhere)
    rotvec = roma.rotmat_to_rotvec(same[:, :3, :3])
    angle = rotvec.norm(dim=-1)
    smallest = int(angle.argmin())
    if float(angle[smallest]) > _CONTINUOUS_RAD:
        return OrientationMotions(exact, same, same[:0], nowhere, nowhere)
    axis = rotvec[smallest] / angle[smallest]
    rotation, shift = same[smallest, :3, :3], same[smallest, :3, 3]
    centre = torch.linalg.pinv(torch.eye(3).to(same) - rotation, rtol=1e-3) @ shift
    rotation = roma.rotvec_to_rotmat(torch.tensor(_FINE_RAD).to(same)[:, None] * axis)
    return OrientationMotions(exact, same, rotation_about(rotation, centre), axis, centre)


def without_twist(
    T_object_camera: Tensor, T_before: Tensor, orientations: Sequence[OrientationMotions]
) -> Tensor:
    """Poses without their rotation about the axis of a continuous symmetry since earlier poses.

    Depth does not determine that rotation, but the decoded surface is not quite round: a pose that
    is fitted to depth rotates a thin shape to where its bumps fit the noise.

    Args:
        T_object_camera: (B, 4, 4) the poses.
        T_before: (B, 4, 4) the earlier poses.
        orientations: B of their shapes.
    """
    axis, centre = (
        torch.stack([getattr(part, name) for part in orientations]).to(T_before)
        for name in ("axis", "centre")
    )
    return run_captured(_without_twist, (), T_object_camera, T_before, axis, centre)[0]


def _without_twist(T: Tensor, T_before: Tensor, axis: Tensor, centre: Tensor) -> tuple[Tensor]:
    rotation = (T @ invert(T_before))[:, :3, :3]
    # Vector and real part of the quaternion, both times four times the real part.
    skew = rotation - rotation.transpose(-1, -2)
    vector = torch.stack((skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]), dim=-1)
    real = 1 + rotation.diagonal(dim1=-2, dim2=-1).sum(-1)
    twist = 2 * torch.atan2((vector * axis).sum(-1), real)
    back = rotation_about(roma.rotvec_to_rotmat(-twist[:, None] * axis), centre)
    return (back @ T,)


@torch.no_grad()
def symmetry_motions(
    field: ShapeField, shape: Shapes, surface: Tensor, exact: Tensor
) -> SymmetryMotions:
    """Find the symmetries of a shape.

    Args:
        field: f_d.
        shape: one shape, without leading dimensions.
        surface: (N, 3) points on it, object frame, metres.
        exact: (S, 4, 4) the symmetries of shape and print, the identity first.
    """
    exact = exact.to(surface)
    fitted = _fit_rotations(field, shape, surface)
    near = fitted.distinct(fitted.near)
    group = _unlike(_same_shape(field, shape, surface), exact, _EQUAL_RAD)
    # Fitted motions are less exact than those of the group, and may only add to them.
    more = _unlike(fitted.distinct(fitted.same), torch.cat((exact, group)), _APART_RAD)
    same = torch.cat((group, more))
    counts = torch.tensor([len(exact), len(same), len(near)], device=surface.device)
    kinds = torch.arange(3, device=surface.device).repeat_interleave(counts)
    return SymmetryMotions(torch.cat((exact, same, near)), kinds)


def _unlike(motions: Tensor, others: Tensor, angle_rad: float) -> Tensor:
    """Those motions (M', 4, 4) whose rotations are no less than this from all others and before."""
    kept = others
    for motion in motions:
        apart = roma.rotmat_geodesic_distance(motion[None, :3, :3], kept[:, :3, :3])
        if (apart > angle_rad).all():
            kept = torch.cat((kept, motion[None]))
    return kept[len(others) :]


def _same_shape(field: ShapeField, shape: Shapes, surface: Tensor) -> Tensor:
    """The motions (S, 4, 4) that map the surface onto itself, whatever is printed on it."""
    if len(surface) == 0:
        return torch.eye(4).to(surface)[None]

    def distance(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return field.sdf(torch.from_numpy(points).to(surface), shape).abs().double().cpu().numpy()

    points = surface.double().cpu().numpy()
    group = torch.from_numpy(rotational_symmetries(points, distance, _SAME_SHAPE_M)).to(surface)
    # Small distances on average may hide a part that is far off, such as the bottom of a cup.
    off = field.sdf(transform(group, surface), shape.unsqueeze(0)).abs()
    return group[off.quantile(_CERTIFIED_SHARE, dim=-1) <= _CERTIFIED_M]


class _Fits(NamedTuple):
    """A shape fitted to itself from rotations.

    Attributes:
        motions: (M, 4, 4).
        cost: (M,) square metres, how far they leave the surface.
        near: (M,) bool, most of the surface stays in place, and some of it comes far off.
        same: (M,) bool, the others after which the certificate could not tell the difference.
    """

    motions: Tensor
    cost: Tensor
    near: Tensor
    same: Tensor

    def distinct(self, wanted: Tensor) -> Tensor:
        """The wanted motions (K, 4, 4), the best first, without those that are nearly equal."""
        kept: list[int] = []
        rotations = self.motions[:, :3, :3]
        for i in self.cost.argsort().tolist():
            apart = roma.rotmat_geodesic_distance(rotations[i][None], rotations[kept])
            if wanted[i] and (apart > _APART_RAD).all():
                kept.append(i)
        return self.motions[kept]


def _fit_rotations(field: ShapeField, shape: Shapes, surface: Tensor) -> _Fits:
    """A shape fitted to itself from rotations about the axes of the object frame.

    A few are tried at first, and the full circle where most of these are near symmetries; the place
    of the axis is found by the fit.
    """
    x = surface[::3]
    if len(x) == 0:
        nothing = x.new_zeros(0)
        return _Fits(x.new_zeros(0, 4, 4), nothing, nothing.bool(), nothing.bool())
    axes = torch.eye(3).to(x)
    fits = _fit_to_itself(field, shape, x, axes, _TRIED_RAD)
    near = fits.near.unflatten(0, (len(axes), len(_TRIED_RAD)))
    around = near.sum(-1) >= _FULL_CIRCLE
    if around.any():
        more = _fit_to_itself(field, shape, x, axes[around], _FULL_CIRCLE_RAD)
        fits = _Fits(*(torch.cat(pair) for pair in zip(fits, more, strict=True)))
    return fits


def _fit_to_itself(
    field: ShapeField, shape: Shapes, x: Tensor, axes: Tensor, angles_rad: Sequence[float]
) -> _Fits:
    """A shape fitted to itself from the rotations by K angles about A axes, (A * K, ...).

    Args:
        field: f_d.
        shape: one shape.
        x: (N, 3) points on it.
        axes: (A, 3) of the rotations.
        angles_rad: K of them.
    """
    angles = torch.tensor(angles_rad).to(x)
    rotation = roma.rotvec_to_rotmat(angles[:, None] * axes[:, None]).flatten(0, 1)
    middle = x.median(0).values
    start = rotation_about(rotation, middle)
    points, shapes = x.expand(len(start), -1, -1), shape.unsqueeze(0).repeated(len(start))
    observed = Correspondences.of_points(points, torch.ones_like(points[..., 0], dtype=torch.bool))
    T = refine_pose(field, observed, shapes, start, _FIT).T_object_camera
    sdf = field.sdf(transform(T, points), shapes).abs()
    still, far = (part.to(x.dtype).mean(-1) for part in (sdf < _NEAR_M, sdf > _OFF_M))
    angle = roma.rotmat_geodesic_distance(T[:, :3, :3], torch.eye(3).to(T).expand(len(T), 3, 3))
    near = (still >= _MOST) & (far >= _LEAST) & (angle > _LEAST_RAD)
    same = (sdf.quantile(_CERTIFIED_SHARE, dim=-1) <= _CERTIFIED_M) & ~near & (angle > _LEAST_RAD)
    cost = geman_mcclure(sdf.square(), sdf.new_tensor(_FIT.robust_scale_m)).cost.mean(-1)
    return _Fits(T, cost, near, same)
