"""An unknown box on a table, in a depth image that a ray caster drew of it."""

from __future__ import annotations

import math

import torch
from latent_boxes import MEAN, SPREAD, RoundedBoxes
from table_depth import CAMERA, LABEL, T_CAMERA_TABLE, rays, table_images, table_plane

from crisp_ros.correction.correspondences import Correspondences
from crisp_ros.correction.shape_starts import Support
from crisp_ros.correction.visibility import Images
from crisp_ros.geometry.se3 import invert

SHAPE = torch.tensor([[0.8, -0.6, 0.9]]).double()


class Scene:
    """One box on a table, seen from a side and above."""

    def __init__(self, yaw: float = 0.6) -> None:
        self.latents = SHAPE
        self.half = MEAN + SHAPE[0] * SPREAD + 0.002
        T_table_object = torch.eye(4).double()
        cosine, sine = math.cos(yaw), math.sin(yaw)
        T_table_object[:2, :2] = torch.tensor([[cosine, -sine], [sine, cosine]])
        T_table_object[2, 3] = self.half[2]
        self.T_object_camera = invert(T_CAMERA_TABLE @ T_table_object)
        normal, offset = table_plane()
        self.support = Support(normal[None], offset[None], torch.ones(1, dtype=torch.bool))
        depth, labels = table_images(
            lambda points: RoundedBoxes().sdf(points[None], SHAPE)[0], self.T_object_camera
        )
        self.images = Images(depth, labels, CAMERA)

    def observed(self) -> Correspondences:
        """The depth points of the box."""
        own = self.images.labels == LABEL
        points = (self.images.depth[..., None] * rays())[own][::3]
        return Correspondences.of_points(points[None], torch.ones(1, len(points)).bool())
