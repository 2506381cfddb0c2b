"""A made data set of procedural spacecraft before black space, in the layout of SPE3R.

Satellites of training and of the test are different ones. Their meshes have a longest side of one
metre about the origin, as those of SPE3R; the maps are written along with the images.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from crisp_ros.cluster import MapFunction
from crisp_ros.data.spe3r import Spe3rDataset
from crisp_ros.data.textured_obj import write_textured_obj
from crisp_ros.observation.frame import Camera

from .procedural.shapes import drawn_shape
from .procedural.spacecraft import spacecraft
from .renderer import Light, Placement, Renderer, Rendering, Scene
from .sensor import ColourSensor, linear_light, sensed_colour
from .spe3r_maps import write_maps

_LONGEST_M = (0.3, 4.0)  # as drawn, before it is scaled to one
_PIXEL_M = 5.86e-6  # of the camera's chip, which camera.json states


@dataclass(frozen=True)
class SpacecraftSetSettings:
    """Settings of `write_spacecraft_set`.

    Attributes:
        train, test: numbers of satellites.
        images: of each satellite.
        side_px, focal_px: of the camera.
        distance_m: range of the satellites' distances, in lengths of their longest side.
        offset_share: most that a satellite is aside of the optical axis, share of the distance.
        sun: range of the sun's brightness.
        earthshine: range of the light from all around.
        colour_sensor: of the camera, whose images are grey.
    """

    train: int = 20
    test: int = 5
    images: int = 20
    side_px: int = 256
    focal_px: float = 440.0
    distance_m: tuple[float, float] = (2.6, 5.0)
    offset_share: float = 0.04
    sun: tuple[float, float] = (0.8, 1.4)
    earthshine: tuple[float, float] = (0.03, 0.25)
    colour_sensor: ColourSensor = ColourSensor()


def write_spacecraft_set(
    folder: Path,
    settings: SpacecraftSetSettings,
    seed: int,
    on_satellite: Callable[[int, int], None] = lambda done, total: None,
    mapped: MapFunction = map,
) -> None:
    """Write the data set; each satellite depends on the seed and its number alone.

    Args:
        folder: to write.
        settings: see `SpacecraftSetSettings`.
        seed: of everything.
        on_satellite: called after each satellite with the number done and the total.
        mapped: makes the satellites; see `crisp_ros.cluster.mapping`.

    Raises:
        RendererError: nothing can be drawn on this machine.
        ModuleNotFoundError: manifold3d is not installed.
    """
    kinds = ["train"] * settings.train + ["test"] * settings.test
    names = [f"{kind}_craft_{number:03d}" for number, kind in enumerate(kinds)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "camera.json").write_text(json.dumps(_camera_entry(settings), indent=1))
    lines = [f"{name},{kind}\n" for name, kind in zip(names, kinds, strict=True)]
    (folder / "splits.csv").write_text("".join(lines))
    write = partial(_write_satellite, folder, settings, seed)
    for done, _ in enumerate(mapped(write, names, range(len(names))), start=1):
        on_satellite(done, len(names))
    write_maps(Spe3rDataset(folder, "all"))


def spacecraft_mesh(seed: int, number: int) -> trimesh.Trimesh:
    """A textured spacecraft with a longest side of one metre about the origin."""
    mesh = drawn_shape(spacecraft, [seed, number], _LONGEST_M).mesh
    mesh.apply_scale(0.999 / mesh.extents.max())  # the maps reach half a metre to each side
    return mesh


def _write_satellite(
    folder: Path, settings: SpacecraftSetSettings, seed: int, name: str, number: int
) -> None:
    place = folder / name
    for kind in ("images", "masks"):
        (place / kind).mkdir(parents=True, exist_ok=True)
    mesh = spacecraft_mesh(seed, number)
    write_textured_obj(place / "models" / "model_normalized.obj", mesh)
    rng = np.random.default_rng([seed, number, 1])
    labels = []
    renderer = Renderer([mesh], settings.side_px, settings.side_px)
    try:
        for index in range(settings.images):
            stem = f"img{index:06d}"
            pose = _pose(settings, rng)
            drawn = renderer.render(_sunlit(pose, settings, rng))
            image = _photograph(drawn, settings, rng)
            cv2.imwrite(str(place / "images" / f"{stem}.jpg"), image)
            mask = np.where(drawn.instances > 0, 255, 0).astype(np.uint8)
            cv2.imwrite(str(place / "masks" / f"{stem}.png"), mask)
            labels.append(_label_entry(f"{stem}.jpg", pose))
    finally:
        renderer.release()
    (place / "labels.json").write_text(json.dumps(labels, indent=1))


def _pose(settings: SpacecraftSetSettings, rng: np.random.Generator) -> NDArray[np.float64]:
    """A random T_camera_object whose image is whole."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.random(random_state=rng).as_matrix()
    distance = rng.uniform(*settings.distance_m)
    aside = rng.uniform(-settings.offset_share, settings.offset_share, 2)
    pose[:3, 3] = distance * np.array([*aside, 1.0])
    return pose


def _sunlit(
    pose: NDArray[np.float64], settings: SpacecraftSetSettings, rng: np.random.Generator
) -> Scene:
    """A scene under a sun that is not behind the satellite."""
    direction = rng.normal(size=3)
    direction[2] = -abs(direction[2]) - 0.2
    direction /= np.linalg.norm(direction)
    sun = Light(tuple(direction), (rng.uniform(*settings.sun),) * 3)
    glint = Placement(0, pose, specular=rng.uniform(0.0, 0.4), shininess=25.0)
    return Scene(_camera(settings), (glint,), (rng.uniform(*settings.earthshine),) * 3, (sun,))


def _photograph(
    drawn: Rendering, settings: SpacecraftSetSettings, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """A grey image (H, W) of what was drawn."""
    colour = sensed_colour(linear_light(drawn.rgb), settings.colour_sensor, rng)
    return cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)


def _camera(settings: SpacecraftSetSettings) -> Camera:
    side, middle = settings.side_px, (settings.side_px - 1) / 2.0
    return Camera(settings.focal_px, settings.focal_px, middle, middle, side, side)


def _camera_entry(settings: SpacecraftSetSettings) -> dict[str, object]:
    camera = _camera(settings)
    return {
        "Nu": camera.width,
        "Nv": camera.height,
        "ppx": _PIXEL_M,
        "ppy": _PIXEL_M,
        "fx": camera.fx * _PIXEL_M,
        "fy": camera.fy * _PIXEL_M,
        "ccx": camera.cx,
        "ccy": camera.cy,
        "cameraMatrix": camera.matrix.tolist(),
        "distCoeffs": [0.0] * 5,
    }


def _label_entry(filename: str, pose: NDArray[np.float64]) -> dict[str, object]:
    quaternion = np.roll(Rotation.from_matrix(pose[:3, :3]).as_quat(), 1)  # scalar first
    return {
        "filename": filename,
        "q_vbs2tango_true": quaternion.tolist(),
        "r_Vo2To_vbs_true": pose[:3, 3].tolist(),
    }
