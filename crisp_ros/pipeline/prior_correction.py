"""Poses and shapes under a model's prior, as a corrector returns them."""

from __future__ import annotations

import torch
from torch import Tensor

from crisp_ros.correction.box_search import with_boxes
from crisp_ros.correction.corrector import Correction
from crisp_ros.correction.correspondences import Correspondences, ObjectPoints, Shapes
from crisp_ros.correction.latent_field import PriorField
from crisp_ros.correction.prior_shape import PriorShapeSettings, fit_prior_shapes
from crisp_ros.correction.residuals import surface_objective
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.correction.shape_source import ShapeSource
from crisp_ros.correction.visibility import Images
from crisp_ros.geometry.se3 import transform
from crisp_ros.network.shape_prior import ShapePrior

from .support_planes import support_planes


def prior_correction(
    field: ShapeField,
    prior: ShapePrior,
    correspondences: Correspondences,
    objects: Tensor,
    images: Images,
    settings: PriorShapeSettings,
) -> Correction:
    """Fit poses and shapes of objects to their depth points; the shapes have boxes.

    Args:
        field: f_d.
        prior: over shapes of its decoder.
        correspondences: of B objects, whose coordinates do not count.
        objects: (B,) their labels in the label image.
        images: that they were seen in.
        settings: see `PriorShapeSettings`.
    """
    points, _, _, valid = correspondences
    fit = fit_prior_shapes(
        PriorField(field.decoder, prior),
        prior.dimensions,
        correspondences,
        objects.to(points.device),
        images,
        support_planes(correspondences, images),
        settings,
    )
    pnc = torch.where(valid[..., None], transform(fit.T_object_camera, points), 0.0)
    shapes = Shapes.of_codes(prior.code(fit.latents))
    shapes = with_boxes(field, shapes, ObjectPoints.of(pnc, valid))
    scale = torch.full_like(fit.objective, settings.solver.robust_scale_m)
    objective = surface_objective(field.sdf(pnc, shapes), valid, scale)
    sources = torch.full_like(fit.iterations, int(ShapeSource.PRIOR))
    return Correction(fit.T_object_camera, shapes, pnc, objective, fit.iterations, sources)
