"""Random scenes of textured objects: scattered in view for training, or resting on a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from crisp_ros.geometry.se3 import rotation_about
from crisp_ros.observation.frame import Camera

from .renderer import Light, Placement, Scene

Rotations = NDArray[np.float64]

_LEAST_RESTING = 0.03  # probability of a stable pose in which an object is shown
_LEAST_STANDING = 0.01  # the same of one in which it stands: tall objects seldom fall so
_STANDING = 0.995  # cosine of the angle between the object's z axis and the table's


@dataclass(frozen=True)
class Viewpoints:
    """Sources of object orientations, (k, 3, 3) rotations per object.

    Attributes:
        resting: object to table frame (z up), from the object's stable poses.
        resting_probability: (k,) of the stable poses.
        standing: those stable poses, likely or not, whose table z axis is the object's; empty for
            an object that cannot stand so.
        observed: object to a camera that looks at it along +z (the viewing ray's tilt is removed),
            as recorded in real scenes; empty where none are known.
    """

    resting: Rotations
    resting_probability: NDArray[np.float64]
    standing: Rotations
    observed: Rotations


@dataclass(frozen=True)
class ScatterSettings:
    """Settings of training scenes: objects float in view, mostly at likely viewpoints.

    Attributes:
        objects: least and largest number in a scene.
        distance_m: range of their distances.
        focal_px: range of the camera's focal length.
        observed_share: of orientations that are drawn from observed ones, where there are any.
        resting_share: of orientations at rest on a table; the others are uniformly random.
        standing_share: of those at rest, in which the object's own z axis points up, where it can
            stand so; the others are as likely as when the object is dropped.
        roll_noise_deg: standard deviation of the rotation about the viewing ray that is added.
        tilt_noise_deg: standard deviation of the rotation about a random axis that is added.
    """

    objects: tuple[int, int] = (6, 9)
    distance_m: tuple[float, float] = (0.55, 1.2)
    focal_px: tuple[float, float] = (900.0, 1150.0)
    observed_share: float = 0.55
    resting_share: float = 0.3
    standing_share: float = 0.0
    roll_noise_deg: float = 20.0
    tilt_noise_deg: float = 17.0

    def __post_init__(self) -> None:
        for name in ("objects", "distance_m", "focal_px"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} is {low, high}: expected two positive ends of a range")


def viewpoints(
    mesh: trimesh.Trimesh, observed_poses: NDArray[np.float64] | None = None
) -> Viewpoints:
    """Likely orientations of one object.

    Args:
        mesh: metres, object frame.
        observed_poses: (k, 7) rows qw qx qy qz tx ty tz, object in camera, or None.
    """
    hull = mesh.convex_hull
    every, probability = trimesh.poses.compute_stable_poses(
        hull, n_samples=1, threshold=_LEAST_STANDING
    )
    every = every.reshape(-1, 4, 4)  # there may be none
    standing = every[every[:, 2, 2] > _STANDING]
    likely = probability > _LEAST_RESTING
    transforms, probability = every[likely], probability[likely]
    if len(transforms) == 0:
        transforms, probability = np.eye(4)[None], np.ones(1)
    observed = np.zeros((0, 3, 3))
    if observed_poses is not None and len(observed_poses):
        rotation = Rotation.from_quat(observed_poses[:, [1, 2, 3, 0]]).as_matrix()
        observed = _ray_rotation(observed_poses[:, 4:]).transpose(0, 2, 1) @ rotation
    share = probability / probability.sum()
    return Viewpoints(transforms[:, :3, :3], share, standing[:, :3, :3], observed)


def load_observed_poses(path: Path) -> dict[int, NDArray[np.float64]]:
    """Poses by object id, from an npz of arrays SCENE/OBJECT with rows as in `viewpoints`."""
    with np.load(path) as arrays:
        by_object: dict[int, list[NDArray[np.float64]]] = {}
        for name in arrays.files:
            by_object.setdefault(int(name.split("/")[1]), []).append(arrays[name])
    return {obj_id: np.concatenate(rows) for obj_id, rows in by_object.items()}


def scattered_scene(
    viewpoints_by_mesh: Sequence[Viewpoints],
    width: int,
    height: int,
    settings: ScatterSettings,
    rng: np.random.Generator,
) -> Scene:
    """Objects spread over the image, overlapping a little, each at a likely orientation."""
    focal = rng.uniform(*settings.focal_px)
    camera = Camera(
        focal,
        focal * rng.uniform(0.995, 1.005),
        (width - 1) / 2 + rng.normal(0, 5),
        (height - 1) / 2 + rng.normal(0, 5),
        width,
        height,
    )
    count = min(rng.integers(settings.objects[0], settings.objects[1] + 1), len(viewpoints_by_mesh))
    chosen = rng.permutation(len(viewpoints_by_mesh))[:count]
    cells = _spread(count, width, height, rng)
    placements = []
    for mesh, (u, v) in zip(chosen, cells, strict=True):
        distance = rng.uniform(*settings.distance_m)
        ray = np.array([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, 1.0])
        position = ray / np.linalg.norm(ray) * distance
        local = _orientation(viewpoints_by_mesh[mesh], settings, rng)
        T = np.eye(4)
        T[:3, :3] = _ray_rotation(position[None])[0] @ local
        T[:3, 3] = position
        placements.append(_material(int(mesh), T, rng))
    ambient, lights = random_lights(rng)
    return Scene(camera, tuple(placements), ambient, lights)


@dataclass(frozen=True)
class TableLayout:
    """Objects resting on the plane z = 0 of a table frame: mesh index to (4, 4) T_table_object."""

    T_table_object: Mapping[int, NDArray[np.float64]]


def table_layout(
    meshes: Sequence[trimesh.Trimesh],
    viewpoints_by_mesh: Sequence[Viewpoints],
    chosen: Sequence[int],
    radius_m: float,
    rng: np.random.Generator,
) -> TableLayout:
    """Rest the chosen meshes on a table, upright poses first, without their footprints touching.

    Raises:
        ValueError: where they do not fit into the radius.
    """
    placed: list[tuple[NDArray[np.float64], float]] = []
    result: dict[int, NDArray[np.float64]] = {}
    for index in chosen:
        view = viewpoints_by_mesh[index]
        resting = view.resting[rng.choice(len(view.resting), p=view.resting_probability)]
        yaw = Rotation.from_euler("z", rng.uniform(0.0, 2.0 * np.pi)).as_matrix()
        rotation = yaw @ resting
        points = meshes[index].vertices @ rotation.T
        middle = (points.min(0) + points.max(0)) / 2.0
        reach = np.linalg.norm(points[:, :2] - middle[:2], axis=1).max()
        spot = _free_spot(placed, reach, radius_m, rng)
        T = np.eye(4)
        T[:3, :3] = rotation
        T[:3, 3] = [spot[0] - middle[0], spot[1] - middle[1], -points[:, 2].min()]
        placed.append((spot, reach))
        result[index] = T
    return TableLayout(result)


def look_at(eye: NDArray[np.float64], target: NDArray[np.float64], roll: float = 0.0) -> NDArray:
    """(4, 4) T_camera_world of an optical frame at `eye` that looks at `target`, world z up."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    upright = np.stack([right, np.cross(forward, right), forward])
    rotation = Rotation.from_euler("z", roll).as_matrix() @ upright
    return rotation_about(rotation, np.asarray(eye, np.float64), np.zeros(3))


def random_lights(
    rng: np.random.Generator,
) -> tuple[tuple[float, float, float], tuple[Light, ...]]:
    """Ambient colour and one to three distant lights, mostly from above and behind the camera."""
    warmth = rng.normal(0.0, 0.08)
    white = np.array([1.0 + warmth, 1.0, 1.0 - warmth])
    ambient = rng.uniform(0.15, 0.6) * white
    lights = []
    for _ in range(rng.integers(1, 4)):
        direction = np.array([rng.normal(0, 0.6), -abs(rng.normal(0.6, 0.5)), -rng.uniform(0, 1)])
        strength = rng.uniform(0.2, 1.1) * (white + rng.normal(0, 0.05, 3))
        lights.append(Light(tuple(direction), tuple(np.clip(strength, 0.0, None))))
    return tuple(ambient), tuple(lights)


def _material(mesh: int, T_camera_object: NDArray, rng: np.random.Generator) -> Placement:
    glossy = rng.random() < 0.5
    return Placement(
        mesh,
        T_camera_object,
        specular=rng.uniform(0.05, 0.8) if glossy else rng.uniform(0.0, 0.1),
        shininess=float(np.exp(rng.uniform(np.log(5.0), np.log(120.0)))),
        tint=tuple(np.clip(rng.normal(1.0, 0.06, 3), 0.7, 1.3)),
    )


def _orientation(
    view: Viewpoints, settings: ScatterSettings, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Object to a camera frame whose z axis passes through the object."""
    draw = rng.random()
    observed_share = settings.observed_share if len(view.observed) else 0.0
    resting_share = settings.observed_share + settings.resting_share - observed_share
    if draw < observed_share:
        base = view.observed[rng.integers(len(view.observed))]
    elif draw < observed_share + resting_share:
        if (
            settings.standing_share
            and len(view.standing)
            and rng.random() < settings.standing_share
        ):
            resting = view.standing[0]
        else:
            resting = view.resting[rng.choice(len(view.resting), p=view.resting_probability)]
        yaw = Rotation.from_euler("z", rng.uniform(0.0, 2.0 * np.pi)).as_matrix()
        elevation = rng.uniform(np.deg2rad(10.0), np.deg2rad(75.0))
        eye = np.array([0.0, -np.cos(elevation), np.sin(elevation)])
        base = look_at(eye, np.zeros(3))[:3, :3] @ yaw @ resting
    else:
        return Rotation.random(random_state=rng.integers(2**31)).as_matrix()
    roll = Rotation.from_euler("z", rng.normal(0.0, settings.roll_noise_deg), degrees=True)
    axis = rng.normal(size=3)
    tilt = Rotation.from_rotvec(
        axis / np.linalg.norm(axis) * np.deg2rad(rng.normal(0.0, settings.tilt_noise_deg))
    )
    return (roll * tilt).as_matrix() @ base


def _ray_rotation(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """(k, 3, 3) smallest rotations that take +z to the rays through positions (k, 3)."""
    ray = positions / np.linalg.norm(positions, axis=1, keepdims=True)
    cross = np.cross(np.array([0.0, 0.0, 1.0]), ray)
    sine = np.linalg.norm(cross, axis=1, keepdims=True)
    angle = np.arctan2(sine, ray[:, 2:])
    return Rotation.from_rotvec(cross / np.maximum(sine, 1e-9) * angle).as_matrix()


def _spread(
    count: int, width: int, height: int, rng: np.random.Generator
) -> list[tuple[float, float]]:
    """Jittered grid positions in pixels."""
    columns = int(np.ceil(np.sqrt(count * width / height)))
    rows = int(np.ceil(count / columns))
    cells = [
        ((c + 0.5 + rng.normal(0, 0.22)) / columns, (r + 0.5 + rng.normal(0, 0.22)) / rows)
        for r in range(rows)
        for c in range(columns)
    ]
    order = rng.permutation(len(cells))[:count]
    return [
        (width * (0.08 + 0.84 * cells[i][0]), height * (0.1 + 0.8 * cells[i][1])) for i in order
    ]


def _free_spot(
    placed: Sequence[tuple[NDArray[np.float64], float]],
    reach: float,
    radius_m: float,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    for _ in range(2000):
        angle, distance = rng.uniform(0.0, 2.0 * np.pi), radius_m * np.sqrt(rng.random())
        spot = np.array([np.cos(angle), np.sin(angle)]) * distance
        if all(np.linalg.norm(spot - other) > reach + r for other, r in placed):
            return spot
    raise ValueError(f"objects do not fit on a table of radius {radius_m} m: choose fewer")
