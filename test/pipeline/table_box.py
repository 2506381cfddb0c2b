"""A box of a known size on a table, as objects under a prior are observed."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from latent_boxes import MEAN, SPREAD, RoundedBoxes
from table_depth import CAMERA, LABEL, T_CAMERA_TABLE, rays, table_images, table_plane

from crisp_ros.correction.correspondences import Correspondences
from crisp_ros.correction.prior_shape import (
    PriorObservation,
    PriorShapeSettings,
    Support,
    observe_for_prior,
)
from crisp_ros.correction.visibility import Images
from crisp_ros.geometry.se3 import invert

_LATENTS = torch.tensor([[0.8, -0.6, 0.9]]).double()
HALF = MEAN + _LATENTS[0] * SPREAD + 0.002
SETTINGS = PriorShapeSettings()
T_TABLE_CAMERA = invert(T_CAMERA_TABLE)


@cache
def observation(place: tuple[float, float] = (0.0, 0.0), yaw: float = 0.6) -> PriorObservation:
    """A box on the table at a place, seen by the camera."""
    T_table_object = torch.eye(4).double()
    cosine, sine = np.cos(yaw), np.sin(yaw)
    T_table_object[:2, :2] = torch.tensor([[cosine, -sine], [sine, cosine]])
    T_table_object[:3, 3] = torch.tensor([*place, float(HALF[2])])
    T_object_camera = invert(T_CAMERA_TABLE @ T_table_object)
    depth, labels = table_images(
        lambda points: RoundedBoxes().sdf(points[None], _LATENTS)[0], T_object_camera
    )
    own = labels == LABEL
    points = (depth[..., None] * rays())[own][::3]
    seen = Correspondences.of_points(points[None], torch.ones(1, len(points)).bool())
    normal, offset = table_plane()
    support = Support(normal[None], offset[None], torch.ones(1, dtype=torch.bool))
    images = Images(depth, labels, CAMERA)
    return observe_for_prior(seen, torch.tensor([LABEL]), images, support, SETTINGS)[0]


def around(yaw: float) -> torch.Tensor:
    """The pose of the camera on the table's frame after a rotation of the table by yaw."""
    turned = torch.eye(4).double()
    cosine, sine = np.cos(yaw), np.sin(yaw)
    turned[:2, :2] = torch.tensor([[cosine, -sine], [sine, cosine]])
    return turned @ T_TABLE_CAMERA


def points_of(seen: PriorObservation) -> torch.Tensor:
    """The depth points that count."""
    return seen.seen.points[seen.seen.valid]
