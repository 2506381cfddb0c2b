"""Shape codes as a network gives them for the images of a data set."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from crisp_ros.data.bop import BopDataset
from crisp_ros.network.model import CrispNetwork
from crisp_ros.observation.frame import Camera, Frame
from crisp_ros.observation.observe import ObservationSettings, observe


@torch.no_grad()
def mean_network_codes(
    network: CrispNetwork,
    dataset: BopDataset,
    settings: ObservationSettings | None = None,
    on_frame: Callable[[int, int], None] = lambda done, total: None,
) -> dict[int, Tensor]:
    """The mean h = f_e(I) over all usable crops of each object, (C,) by object id.

    Objects of which no image shows enough are left out.

    Raises:
        DatasetError: an image cannot be read.
    """
    settings = settings or ObservationSettings(max_objects=None)
    codes: dict[int, list[Tensor]] = {}
    for done, frame in enumerate(dataset.frames(), start=1):
        height, width = frame.depth.shape
        camera = Camera.from_matrix(frame.intrinsics, width, height)
        shown = Frame(frame.rgb, frame.depth, frame.labels, camera)
        observations = observe(
            shown,
            settings,
            network.crop_size,
            network.sees_geometry,
            network.crop_rule,
        )
        ids = {instance.label: instance.obj_id for instance in frame.instances}
        if len(observations.labels) > 0:
            answers = network.shape_head(network.features(observations.crops).pooled)
            for label, code in zip(observations.labels.tolist(), answers, strict=True):
                codes.setdefault(ids[label], []).append(code)
        on_frame(done, len(dataset.images))
    return {obj_id: torch.stack(some).mean(dim=0) for obj_id, some in sorted(codes.items())}
