"""Evidence for a shape: how much of its surface the data could have contradicted, and did not.

A patch of a table or of an unknown object can be explained by many large shapes, whose other parts
are hidden, or inside the table. Such a fit says little, and the network's coordinates, which do not
know the object, seldom agree with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.certificate import Condition
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.reasons import Reasons
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.correction.surface import SurfacePoints
from crisp_ros.correction.visibility import Images, project_surfaces
from crisp_ros.geometry.cuda_graphs import run_captured
from crisp_ros.observation.frame import Camera

_BACKGROUND = 0  # label
_NEAREST_QUANTILE = 0.02  # of an object's depths, which outliers do not reach
_AWAY_COSINE = 0.15  # surfaces that the camera sees at a flatter angle count as its outline


@dataclass(frozen=True)
class EvidenceSettings:
    """Settings of `evidence_condition`.

    Attributes:
        inlier_share: an object of whose points this share agrees with the coordinates needs less
            evidence, where the coordinates agree on its size too: no more than the next.
        agreed_seen_share: as `seen_share`, for these. Coordinates of a small part agree with one
            another also where all of them are wrong.
        size_ratio: least and greatest ratio of size by depth over size by the coordinates that
            counts as agreement.
        seen_share: least share of the surface that faces the camera on which depth was measured.
        buried_share: greatest share of the surface behind the surface of the seen background.
        other_size_seen_share: as `seen_share`, where the sizes do not agree.
        other_size_buried_share: as `buried_share`, where the sizes do not agree.
        thickness_share: greatest residual as a share of the shortest edge of the shape's box.
        new_shape_share: greatest residual of a shape outside the library as a share of the
            certificate's threshold: it has been fitted more freely.
        least_threshold_m: that residual is not required to be lower than this, metres.
        depth_tolerance_m: of measured depth to the surface, metres.
        points: of the surface that are tested.
    """

    inlier_share: float = 0.5
    agreed_seen_share: float = 0.15
    size_ratio: tuple[float, float] = (0.7, 1.5)
    seen_share: float = 0.3
    buried_share: float = 0.1
    other_size_seen_share: float = 0.45
    other_size_buried_share: float = 0.03
    thickness_share: float = 0.25
    new_shape_share: float = 0.7
    least_threshold_m: float = 0.004
    depth_tolerance_m: float = 0.01
    points: int = 512


class SurfaceEvidence(NamedTuple):
    """Shares of the surfaces of B shapes by what the camera images say of them.

    Attributes:
        seen: (B,) share of the surface that faces the camera on which depth was measured.
        buried: (B,) share of the surface that is behind the surface of the seen background.
    """

    seen: Tensor
    buried: Tensor


class FitOfShapes(NamedTuple):
    """The fit of B objects.

    Attributes:
        residual: (B,) of the certificate, metres.
        threshold: (B,) of the certificate, metres.
        sizes_agree: (B,) bool, see `sizes_agree`.
    """

    residual: Tensor
    threshold: Tensor
    sizes_agree: Tensor


@torch.no_grad()
def surface_evidence(
    field: ShapeField,
    hypotheses: Hypotheses,
    surfaces: SurfacePoints,
    images: Images,
    settings: EvidenceSettings | None = None,
) -> SurfaceEvidence:
    """Measure how much of the surface of shapes was seen, and is inside of the background.

    Args:
        field: f_d.
        hypotheses: B of them.
        surfaces: points on their shapes.
        images: that the objects were seen in.
        settings: see `EvidenceSettings`.
    """
    settings = settings or EvidenceSettings()
    depth, labels, camera = images
    rows = (
        surfaces.subsample(settings.points),
        hypotheses.T_object_camera,
        hypotheses.labels,
        hypotheses.shapes,
        hypotheses.correspondences.points,
        hypotheses.correspondences.valid,
    )
    constants = settings, camera, field
    return run_captured(_surface_evidence, constants, *rows, shared=(depth, labels))


def _surface_evidence(
    settings: EvidenceSettings,
    camera: Camera,
    field: ShapeField,
    depth: Tensor,
    labels: Tensor,
    *rows: tuple | Tensor,
) -> SurfaceEvidence:
    surfaces, T_object_camera, objects, shapes, observed, counted = rows
    x, front, u, v = project_surfaces(surfaces, T_object_camera, camera)
    z = x[..., 2]
    height, width = depth.shape
    inside = front & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    at = v.clamp(0, height - 1), u.clamp(0, width - 1)
    measured, label = depth[at], labels[at]
    known = inside & (measured > 0)
    normals = field.sdf_and_gradient(surfaces.points, shapes).gradient
    normals = normals @ T_object_camera[:, :3, :3].to(normals.dtype)
    rays = torch.nn.functional.normalize(x, dim=-1)
    facing = front & ((normals * rays).sum(-1) < -_AWAY_COSINE)
    own = label == objects[:, None]
    near = (measured - z).abs() < settings.depth_tolerance_m
    buried = known & (label == _BACKGROUND) & (measured < z - 1.5 * settings.depth_tolerance_m)
    # What is nearer than the whole object may be an occluder that nobody has labelled.
    rank = (_NEAREST_QUANTILE * counted.sum(-1, keepdim=True)).long()
    depths = torch.where(counted, observed[..., 2], torch.inf)
    nearest = depths.sort(dim=-1).values.gather(-1, rank)
    buried &= measured > nearest - 1.5 * settings.depth_tolerance_m
    return SurfaceEvidence(
        (facing & known & own & near).sum(-1) / facing.sum(-1).clamp_min(1),
        buried.sum(-1) / front.sum(-1).clamp_min(1),
    )


def sizes_agree(size_ratios: Tensor, settings: EvidenceSettings) -> Tensor:
    """Whether the network's coordinates agree with the depth on the size of objects, (B,).

    Args:
        size_ratios: (B,) of `Correspondences`.
        settings: see `EvidenceSettings`.
    """
    low, high = settings.size_ratio
    return (size_ratios >= low) & (size_ratios <= high)


def coordinates_agree(hypotheses: Hypotheses, share: float, settings: EvidenceSettings) -> Tensor:
    """Whether the network's coordinates agree on pose and size of objects, (B,).

    Args:
        hypotheses: B of them.
        share: of the points that must agree with the registered pose.
        settings: see `EvidenceSettings`.
    """
    sized = sizes_agree(hypotheses.correspondences.size_ratios, settings)
    return sized & (hypotheses.inlier_share >= share)


def evidence_condition(
    field: ShapeField,
    hypotheses: Hypotheses,
    surfaces: SurfacePoints,
    images: Images,
    fit: FitOfShapes,
    settings: EvidenceSettings | None = None,
) -> Condition:
    """The condition that shapes are known by more than an accidental fit.

    Where the coordinates agree with depth on pose and size, some of the surface has to be seen.
    Elsewhere more of it has to be, little of it may be inside of the background, and the fit has to
    be good for the thickness of the shape.

    Args:
        field: f_d.
        hypotheses: B of them.
        surfaces: points on their shapes.
        images: that the objects were seen in.
        fit: what is known of the fit of the same objects.
        settings: see `EvidenceSettings`.
    """
    settings = settings or EvidenceSettings()
    found = surface_evidence(field, hypotheses, surfaces, images, settings)
    sized = fit.sizes_agree
    agreed = sized & (hypotheses.inlier_share >= settings.inlier_share)
    least_seen = torch.where(sized, settings.seen_share, settings.other_size_seen_share)
    least_seen = least_seen.masked_fill(agreed, settings.agreed_seen_share)
    most_buried = torch.where(sized, settings.buried_share, settings.other_size_buried_share)
    most_buried = most_buried.masked_fill(agreed, torch.inf)
    shapes = hypotheses.shapes
    thickness = (shapes.upper - shapes.lower).amin(-1)
    limit = (settings.thickness_share * thickness).clamp_min(settings.least_threshold_m)
    new_limit = settings.new_shape_share * fit.threshold
    limit = torch.where(shapes.index < 0, torch.minimum(limit, new_limit), limit)
    fits = agreed | ~(fit.residual > limit)
    held = (found.seen >= least_seen) & (found.buried <= most_buried) & fits
    few, inside = found.seen < least_seen, found.buried > most_buried
    values = held, agreed, few, inside, found.seen, found.buried
    reasons = Reasons(
        values,
        lambda columns: [_reason(*row) for row in zip(*columns, strict=True)],
        len(held),
    )
    return Condition("evidence", held, found.seen, reasons)


def _reason(
    held: float, agreed: float, few: float, inside: float, seen: float, buried: float
) -> str:
    if held:
        return ""
    if agreed:
        return f"{100 * seen:.0f} % of the facing surface was seen"
    if few:
        return f"{100 * seen:.0f} % of the facing surface was seen, and no coordinates confirm it"
    if inside:
        return f"{100 * buried:.0f} % of the shape is inside of the background"
    return "the fit is poor for a thin or new shape, and no coordinates confirm it"
