"""RGB-D frames of cluttered tables, shelves and bins with instance labels, for segmentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
import trimesh
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.transform import Rotation

from crisp_ros.observation.frame import Camera

from .backgrounds import background, smooth_noise
from .clutter_layout import ClutterLayout, clutter_layout
from .household_shapes import random_print, random_shape
from .measured_depth import random_depth_sensor
from .renderer import Placement, Renderer, Scene
from .scenes import look_at, random_lights
from .sensor import ColourSensor, DepthSensor, linear_light, sensed_colour, sensed_depth

_BLOCK = 12  # frames for which one pool of meshes goes to the renderer
_OWN_SHAPES = 16  # procedural shapes of a block
_GIVEN_MESHES = 8  # meshes of a block that the caller gave
_SURFACES = 6  # textured squares of a block
_AXIS_ROTATIONS = tuple(Rotation.create_group("O").as_matrix())


@dataclass(frozen=True)
class ClutterSettings:
    """Settings of cluttered scenes.

    Attributes:
        width, height: of the images, pixels.
        focal_share: range of the focal length, as a share of the width.
        objects: least and largest number in a scene.
        distance_m, elevation_deg: range of the camera's position about the scene's middle.
        bin_share, shelf_share: of scenes in a bin and on a shelf; the others are tables.
        holes_share: of frames in which larger areas have no depth.
        depth_sensor: None draws one for each frame.
        depth_noise: factor on its noise.
    """

    width: int = 320
    height: int = 240
    focal_share: tuple[float, float] = (0.8, 1.7)
    objects: tuple[int, int] = (1, 18)
    distance_m: tuple[float, float] = (0.5, 1.4)
    elevation_deg: tuple[float, float] = (15.0, 85.0)
    bin_share: float = 0.15
    shelf_share: float = 0.15
    holes_share: float = 0.4
    depth_sensor: DepthSensor | None = None
    depth_noise: float = 1.0


class ClutterFrame(NamedTuple):
    """One rendered frame.

    Attributes:
        rgb: (H, W, 3) uint8.
        depth: (H, W) float32 metres, 0 where nothing was measured.
        labels: (H, W) uint8, 0 for what is no object.
        camera: of the three images.
        plane: (4,) support plane in the camera frame, n x + d = height above it, metres.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    labels: NDArray[np.uint8]
    camera: Camera
    plane: NDArray[np.float64]


def clutter_frames(
    meshes: Sequence[trimesh.Trimesh],
    settings: ClutterSettings,
    seed: int,
    frames: int,
) -> Iterator[ClutterFrame]:
    """Render frames one after the other.

    Args:
        meshes: textured objects, metres, that are mixed with procedural shapes; may be empty.
        settings: see `ClutterSettings`.
        seed: of everything; a block of frames depends on it and the block's number alone.
        frames: how many.
    """
    for start in range(0, frames, _BLOCK):
        block = _Block(meshes, settings, np.random.default_rng([seed, start]))
        try:
            for _ in range(min(_BLOCK, frames - start)):
                yield block.frame()
        finally:
            block.release()


class _Block:
    """A renderer with a random pool of objects and surfaces."""

    def __init__(
        self,
        meshes: Sequence[trimesh.Trimesh],
        settings: ClutterSettings,
        rng: np.random.Generator,
    ) -> None:
        self._settings, self._rng = settings, rng
        chosen = [meshes[i] for i in rng.permutation(len(meshes))[:_GIVEN_MESHES]]
        resized = [_resized(mesh, rng) for mesh in chosen]
        own = [random_shape(rng) for _ in range(_OWN_SHAPES)]
        self._bodies = [*(body for body, _ in resized), *own]
        self._T_body_mesh = [*(T for _, T in resized), *(np.eye(4) for _ in own)]
        surfaces = [_square(rng) for _ in range(_SURFACES)]
        self._renderer = Renderer([*chosen, *own, *surfaces], settings.width, settings.height)

    def release(self) -> None:
        self._renderer.release()

    def frame(self) -> ClutterFrame:
        """Render a new scene."""
        settings, rng = self._settings, self._rng
        kind = rng.random()
        in_bin = kind < settings.bin_share
        on_shelf = settings.bin_share <= kind < settings.bin_share + settings.shelf_share
        radius_m = rng.uniform(0.18, 0.45)
        T_world = self._arranged(in_bin, radius_m)
        camera, T_camera_world = self._camera(in_bin, on_shelf)
        objects = [
            self._placement(i, T_camera_world @ T @ self._T_body_mesh[i])
            for i, T in T_world.items()
        ]
        walls = [
            Placement(len(self._bodies) + i, T_camera_world @ T, specular=0.05)
            for i, T in self._surroundings(in_bin, on_shelf, radius_m)
        ]
        ambient, lights = random_lights(rng)
        view = self._renderer.render(Scene(camera, (*objects, *walls), ambient, lights))
        labels = np.where(view.instances <= len(objects), view.instances, 0).astype(np.uint8)
        sensor = settings.depth_sensor or random_depth_sensor(rng)
        sensor = replace(sensor, noise_px=sensor.noise_px * settings.depth_noise)
        depth = sensed_depth(view.depth, camera, sensor, rng)
        if rng.random() < settings.holes_share:
            depth[_holes(settings, rng)] = 0.0
        return ClutterFrame(self._colour(view.rgb), depth, labels, camera, _plane(T_camera_world))

    def _arranged(self, in_bin: bool, radius_m: float) -> dict[int, NDArray[np.float64]]:
        rng = self._rng
        count = int(rng.integers(self._settings.objects[0], self._settings.objects[1] + 1))
        chosen = rng.permutation(len(self._bodies))[:count]
        meshes = [self._bodies[i] for i in chosen]
        rotations = [_orientation(in_bin, rng) for _ in meshes]
        # The largest first: small objects are put onto large ones and not the other way round.
        order = np.argsort([-mesh.area for mesh in meshes]) if rng.random() < 0.5 else range(count)
        order = [int(i) for i in order if i < len(meshes)]
        layout = ClutterLayout(
            radius_m=radius_m,
            touching_share=rng.uniform(0.0, 0.8),
            stacked_share=rng.uniform(0.0, 0.3),
            heaped=in_bin,
            gap_m=rng.uniform(0.005, 0.03),
        )
        placed = clutter_layout(
            [meshes[i] for i in order], [rotations[i] for i in order], layout, rng
        )
        return {int(chosen[order[i]]): T for i, T in placed.items()}

    def _camera(self, in_bin: bool, on_shelf: bool) -> tuple[Camera, NDArray[np.float64]]:
        settings, rng = self._settings, self._rng
        focal = rng.uniform(*settings.focal_share) * settings.width
        camera = Camera(
            focal,
            focal,
            (settings.width - 1) / 2.0 + rng.normal(0.0, 3.0),
            (settings.height - 1) / 2.0 + rng.normal(0.0, 3.0),
            settings.width,
            settings.height,
        )
        low, high = settings.elevation_deg
        if in_bin:
            low = max(low, 45.0)
        if on_shelf:
            high = min(high, 40.0)
        up = np.deg2rad(rng.uniform(low, high))
        # Longer lenses stand farther away.
        distance = rng.uniform(*settings.distance_m) * (0.5 + 0.5 * focal / settings.width)
        azimuth = rng.uniform(-0.6, 0.6) if on_shelf else rng.uniform(0.0, 2.0 * np.pi)
        azimuth -= np.pi / 2 if on_shelf else 0.0  # the back wall is at positive y
        eye = distance * np.array(
            [np.cos(up) * np.cos(azimuth), np.cos(up) * np.sin(azimuth), np.sin(up)]
        )
        target = np.array([*rng.normal(0.0, 0.06, 2), rng.uniform(0.0, 0.08)])
        return camera, look_at(target + eye, target, rng.normal(0.0, 0.1))

    def _placement(self, index: int, T_camera_object: NDArray[np.float64]) -> Placement:
        rng = self._rng
        specular = rng.uniform(0.05, 0.8) if rng.random() < 0.4 else rng.uniform(0.0, 0.1)
        tint = tuple(np.clip(rng.normal(1.0, 0.15, 3), 0.5, 1.5))
        return Placement(
            index, T_camera_object, specular, float(np.exp(rng.uniform(1.6, 4.8))), tint
        )

    def _surroundings(
        self, in_bin: bool, on_shelf: bool, radius_m: float
    ) -> list[tuple[int, NDArray[np.float64]]]:
        """Textured squares and their T_world_square (4, 4): support, floor and walls."""
        rng = self._rng
        half = radius_m + rng.uniform(0.0, 0.6, 2)
        floor = -rng.uniform(0.2, 0.9)
        result = [
            (0, _scaled_square((0, 0, 0), (half[0], 0, 0), (0, half[1], 0))),
            (1, _scaled_square((0, 0, floor), (6, 0, 0), (0, 6, 0))),
        ]
        far = rng.uniform(1.0, 3.0, 4)
        for side, distance in enumerate(far):
            axis, sign = side // 2, 1.0 if side % 2 else -1.0
            centre, along = np.zeros(3), np.zeros(3)
            centre[axis], along[1 - axis] = sign * distance, 6.0
            if rng.random() < 0.7:
                result.append((2, _scaled_square(centre, along, (0, 0, 4))))
        if in_bin:
            reach, rise = radius_m + rng.uniform(0.0, 0.1, 2), rng.uniform(0.05, 0.25)
            for side in range(4):
                axis, sign = side // 2, 1.0 if side % 2 else -1.0
                centre, along = np.array([0.0, 0.0, rise / 2]), np.zeros(3)
                centre[axis], along[1 - axis] = sign * reach[axis], reach[1 - axis]
                result.append((3, _scaled_square(centre, along, (0, 0, rise / 2))))
        if on_shelf:
            depth, rise = rng.uniform(0.2, 0.5), rng.uniform(0.3, 0.7)
            result.append((4, _scaled_square((0, depth, 0), (1.5, 0, 0), (0, 0, rise))))
            if rng.random() < 0.5:
                centre = (0, depth - half[1], rise)
                result.append((5, _scaled_square(centre, (1.5, 0, 0), (0, half[1], 0))))
        return result

    def _colour(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        rng = self._rng
        sensor = ColourSensor(
            blur_px=rng.uniform(0.3, 1.0),
            exposure=float(np.exp(rng.uniform(-0.7, 0.5))),
            white_balance=tuple(np.clip(rng.normal(1.0, 0.08, 3), 0.7, 1.3)),
            vignetting=rng.uniform(0.0, 0.3),
            full_well=float(np.exp(rng.uniform(5.0, 8.7))),
            read_noise=rng.uniform(0.001, 0.01),
        )
        return sensed_colour(linear_light(rgb), sensor, rng)


def _orientation(any_rotation: bool, rng: np.random.Generator) -> NDArray[np.float64]:
    """Mesh to world: upright, on a side, or in a heap at any angle."""
    if any_rotation and rng.random() < 0.5:
        return Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
    yaw = Rotation.from_euler("z", rng.uniform(0.0, 2.0 * np.pi)).as_matrix()
    if rng.random() < 0.55:
        return yaw
    return yaw @ _AXIS_ROTATIONS[rng.integers(len(_AXIS_ROTATIONS))]


def _resized(
    mesh: trimesh.Trimesh, rng: np.random.Generator
) -> tuple[trimesh.Trimesh, NDArray[np.float64]]:
    """A centred body of another size, and T_body_mesh (4, 4), which scales.

    The body has no texture: a copy of a scanned one takes tens of megabytes.
    """
    scale = rng.uniform(0.7, 1.2)
    T = np.diag([scale, scale, scale, 1.0])
    T[:3, 3] = -scale * mesh.bounds.mean(axis=0)
    vertices = trimesh.transform_points(mesh.vertices, T)
    return trimesh.Trimesh(vertices, mesh.faces, process=False), T


def _square(rng: np.random.Generator) -> trimesh.Trimesh:
    """A square with corners at +-1 in x and y and a random texture."""
    corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], float)
    pixels = random_print(rng, 256) if rng.random() < 0.5 else background(256, 256, rng)
    material = trimesh.visual.material.SimpleMaterial(image=Image.fromarray(pixels))
    uv = (corners[:, :2] + 1.0) / 2.0
    return trimesh.Trimesh(
        corners,
        [[0, 1, 2], [0, 2, 3]],
        visual=trimesh.visual.TextureVisuals(uv=uv, material=material),
        process=False,
    )


def _scaled_square(centre: Sequence[float], along: Sequence[float], across: Sequence[float]):
    """T_world_square (4, 4) of a parallelogram with these half edges."""
    T = np.eye(4)
    T[:3, 0], T[:3, 1], T[:3, 3] = along, across, centre
    normal = np.cross(along, across)
    T[:3, 2] = normal / np.linalg.norm(normal)
    return T


def _plane(T_camera_world: NDArray[np.float64]) -> NDArray[np.float64]:
    normal = T_camera_world[:3, 2]
    return np.array([*normal, -normal @ T_camera_world[:3, 3]])


def _holes(settings: ClutterSettings, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Areas without depth, such as those of dark or shiny surfaces."""
    noise = smooth_noise(settings.width, settings.height, rng)
    grown = cv2.GaussianBlur(noise, (0, 0), rng.uniform(0.5, 3.0))
    return grown < np.quantile(grown, rng.uniform(0.0, 0.4))
