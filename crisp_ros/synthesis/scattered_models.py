"""The object models of a data set, scattered in view with likely orientations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import trimesh

from crisp_ros.cluster import MapFunction
from crisp_ros.data.bop import BopFrame, read_models
from crisp_ros.data.files import DatasetError
from crisp_ros.synthesis.scattered_frames import DomainSettings, scattered_frames
from crisp_ros.synthesis.scenes import Viewpoints, load_observed_poses, viewpoints


@dataclass(frozen=True)
class ScatteredModels:
    """Objects to scatter, by their ids.

    Attributes:
        meshes: textured, metres.
        views: likely orientations, in the order of the meshes.
        names: of the objects.
    """

    meshes: dict[int, trimesh.Trimesh]
    views: list[Viewpoints]
    names: dict[int, str]

    @classmethod
    def read(
        cls, folder: Path, observed_poses: Path | None = None, ids: Sequence[int] = ()
    ) -> ScatteredModels:
        """Read models in the BOP layout.

        Args:
            folder: of the models.
            observed_poses: see `load_observed_poses`; None leaves resting and random orientations.
            ids: of the objects to take; none takes all.

        Raises:
            DatasetError: the models cannot be read, or an id is not among them.
        """
        models = read_models(folder)
        if missing := sorted(set(ids) - set(models)):
            raise DatasetError(f"{folder}: no model {', '.join(map(str, missing))}")
        chosen = {obj_id: models[obj_id] for obj_id in ids} if ids else models
        observed = load_observed_poses(observed_poses) if observed_poses else {}
        meshes = {obj_id: model.mesh for obj_id, model in chosen.items()}
        views = [viewpoints(mesh, observed.get(obj_id)) for obj_id, mesh in meshes.items()]
        return cls(meshes, views, {obj_id: model.name for obj_id, model in chosen.items()})

    def frames(
        self,
        domain: DomainSettings,
        count: int,
        seed: int,
        on_frame: Callable[[int, int], None] = lambda done, total: None,
        mapped: MapFunction = map,
    ) -> Iterator[BopFrame]:
        """Render frames one after the other; see `scattered_frames`."""
        return scattered_frames(self.meshes, self.views, domain, count, seed, on_frame, mapped)
