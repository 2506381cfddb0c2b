"""A rendered recording: a camera moves around a table on which objects stand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import trimesh
from numpy.typing import NDArray

from crisp_ros.data.recorded_frame import RecordedFrame, RecordingError, TrueObject
from crisp_ros.geometry.se3 import invert
from crisp_ros.observation.frame import Camera

from .cycles import CyclesSettings
from .lighting import Lamps, Lighting, indoor_light
from .materials import sampled
from .renderer import Light, Placement, Renderer, Scene
from .renderers import RendererName
from .room import Room, RoomView, furnished_room
from .scenes import Viewpoints, look_at, table_layout
from .sensor import ColourSensor, DepthSensor, linear_light, sensed_colour, sensed_depth
from .traced_tables import TracedPainter
from .visible_shares import VisibleShares

FRAME_ID = "camera_color_optical_frame"
_LIGHTMAP_PX = 640
_SUPERSAMPLING = 2
_FAR_BLUR_PX = 1.6  # the lens is focused on the table
_MEAN_TABLE = 0.27  # reflectance that throws light back up to the objects
_LIGHT_EDGE_M = 0.007  # light is known at the ends of such edges and blends between them
_MOST_LIGHT = 2.5  # irradiance that 8 bits of colour stand for
_AS_PAINTED = (1.0, 1.0, 1.0)  # ambient light that shows a surface's own colour


@dataclass(frozen=True)
class RecordingSettings:
    """Settings of a rendered recording.

    Attributes:
        frames, rate_hz: number of frames and how many a second.
        width, height, focal_px: of the camera, pixels.
        intrinsics: fx, fy, cx, cy in place of the focal length and the middle of the image.
        spread_m: objects stand within this distance of the table's middle.
        distance_m, elevation_deg: range that the camera goes through; sweep_deg is how far it
            travels around the table.
        renderer: fast, or cycles for path-traced images; the scenes of a seed are the same.
        cycles: settings of the latter.
    """

    frames: int = 40
    rate_hz: float = 4.0
    width: int = 640
    height: int = 480
    focal_px: float = 915.0
    intrinsics: tuple[float, float, float, float] | None = None
    spread_m: float = 0.22
    distance_m: tuple[float, float] = (0.95, 1.12)
    elevation_deg: tuple[float, float] = (26.0, 50.0)
    sweep_deg: float = 210.0
    renderer: RendererName = "fast"
    cycles: CyclesSettings = field(default_factory=CyclesSettings)
    depth_sensor: DepthSensor = field(default_factory=DepthSensor)
    colour_sensor: ColourSensor = field(default_factory=ColourSensor)

    @property
    def camera(self) -> Camera:
        """The camera that takes the frames."""
        middle = (self.width - 1) / 2.0, (self.height - 1) / 2.0
        intrinsics = self.intrinsics or (self.focal_px, self.focal_px, *middle)
        return Camera(*intrinsics, self.width, self.height)


def table_recording(
    models: Mapping[str, trimesh.Trimesh],
    settings: RecordingSettings,
    seed: int,
    on_frame: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[RecordedFrame]:
    """Render the frames of a recording one after the other.

    The world frame is the table's: z up, its top at 0. Labels count the models from 1.

    Args:
        models: textured meshes by name, metres; each stands on the table with its z axis up.
        on_frame: called after each frame with the number done and the total.

    Raises:
        RecordingError: the objects do not fit on the table.
    """
    rng = np.random.default_rng(seed)
    try:
        T_world_object = _standing(list(models.values()), settings.spread_m, rng)
    except ValueError as error:
        raise RecordingError(str(error)) from error
    return _frames(models, T_world_object, settings, seed, rng, on_frame)


def _frames(
    models: Mapping[str, trimesh.Trimesh],
    T_world_object: Sequence[NDArray[np.float64]],
    settings: RecordingSettings,
    seed: int,
    rng: np.random.Generator,
    on_frame: Callable[[int, int], None],
) -> Iterator[RecordedFrame]:
    names, meshes = list(models), list(models.values())
    room = furnished_room(rng)
    light = indoor_light(rng)
    gloss = rng.uniform(0.02, 0.12, len(meshes))
    camera = settings.camera
    shares = VisibleShares(meshes, _scaled(camera, 0.5))
    painter: _Painter | TracedPainter
    if settings.renderer == "cycles":
        painter = TracedPainter(meshes, light, room, gloss, camera, settings.cycles)
    else:
        fine = [_fine(mesh) for mesh in meshes]
        lighting = Lighting(fine, T_world_object, light.all, radius_m=settings.spread_m + 0.25)
        lightmap = _Lightmap(lighting, room)
        lit = [
            _painted(mesh, T, lighting, lightmap)
            for mesh, T in zip(fine, T_world_object, strict=True)
        ]
        painter = _Painter(meshes, lit, light.brightest, lightmap, room, gloss, camera)
    try:
        path = _orbit(settings, np.random.default_rng([seed, 1]))
        for index, T_camera_world in enumerate(path):
            poses = [T_camera_world @ T for T in T_world_object]
            image, depth, instances = painter.frame(T_camera_world, poses)
            truth = tuple(
                TrueObject(i + 1, names[i], poses[i], share)
                for i, share in enumerate(shares.of(poses))
                if share > 0.0
            )
            sensed = sensed_depth(depth, camera, settings.depth_sensor, rng)
            yield RecordedFrame(
                stamp_ns=round(1e9 * (1.0 + index / settings.rate_hz)),
                frame_id=FRAME_ID,
                rgb=sensed_colour(image, settings.colour_sensor, rng),
                depth=np.rint(sensed * 1e3).astype(np.uint16),
                labels=instances.astype(np.uint8),
                intrinsics=camera.matrix,
                label_names={i + 1: name for i, name in enumerate(names)},
                truth=truth,
                T_world_camera=invert(T_camera_world),
            )
            on_frame(index + 1, settings.frames)
    finally:
        painter.release()
        shares.release()


def _standing(
    meshes: Sequence[trimesh.Trimesh], spread_m: float, rng: np.random.Generator
) -> list[NDArray[np.float64]]:
    upright = Viewpoints(np.eye(3)[None], np.ones(1), np.eye(3)[None], np.zeros((0, 3, 3)))
    # Those that need most room choose first.
    order = sorted(range(len(meshes)), key=lambda i: -np.linalg.norm(meshes[i].extents[:2]))
    layout = table_layout(meshes, [upright] * len(meshes), order, spread_m, rng)
    return [layout.T_table_object[i] for i in range(len(meshes))]


def _orbit(settings: RecordingSettings, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """T_camera_world (4, 4) along a smooth path: around, up and down, nearer and farther."""
    start, bob, reach, roll, sway = rng.uniform(0.0, 2.0 * np.pi, 5)
    for index in range(settings.frames):
        share = index / max(settings.frames - 1, 1)
        eased = share - 0.08 * np.sin(2.0 * np.pi * share)
        azimuth = start + np.deg2rad(settings.sweep_deg) * eased
        up = _between(settings.elevation_deg, 2.0 * np.pi * share + bob)
        distance = _between(settings.distance_m, 1.5 * np.pi * share + reach)
        target = np.array([0.02 * np.cos(azimuth + sway), 0.02 * np.sin(azimuth + sway), 0.06])
        up = np.deg2rad(up)
        eye = np.array([np.cos(up) * np.cos(azimuth), np.cos(up) * np.sin(azimuth), np.sin(up)])
        tilt = np.deg2rad(2.5) * np.sin(2.0 * np.pi * share + roll)
        yield look_at(target + distance * eye, target, tilt)


def _between(limits: tuple[float, float], phase: float) -> float:
    return limits[0] + (limits[1] - limits[0]) * (0.5 + 0.5 * np.sin(phase))


def _fine(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """A bare copy, welded where texture seams split it and with short edges, to carry light."""
    bare = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    bare.merge_vertices()
    vertices, faces = trimesh.remesh.subdivide_to_size(bare.vertices, bare.faces, _LIGHT_EDGE_M)
    fine = trimesh.Trimesh(vertices, faces, process=False)
    fine.merge_vertices()
    return fine


def _painted(
    fine: trimesh.Trimesh,
    T_world_object: NDArray[np.float64],
    lighting: Lighting,
    lightmap: _Lightmap,
) -> trimesh.Trimesh:
    """A copy whose colour is the light that arrives: from the lamps, and back from the table."""
    points = trimesh.transform_points(fine.vertices, T_world_object).astype(np.float32)
    normals = (fine.vertex_normals @ T_world_object[:3, :3].T).astype(np.float32)
    light = lighting.irradiance(points, normals)
    below = lightmap.at(points, blurred=True)
    light += _MEAN_TABLE * below * (0.5 - 0.5 * normals[:, 2:])
    shown = np.clip(light / _MOST_LIGHT, 0.0, 1.0) ** (1.0 / 2.2)
    painted = trimesh.Trimesh(fine.vertices, fine.faces, process=False)
    painted.visual.vertex_colors = np.hstack(
        [np.rint(255.0 * shown), np.full((len(shown), 1), 255.0)]
    ).astype(np.uint8)
    return painted


class _Lightmap:
    """Irradiance on the table top (side, side, 3), sampled once: nothing on it moves."""

    def __init__(self, lighting: Lighting, room: Room) -> None:
        self._half = np.float32(max(room.runner_half) + 0.2)
        place = np.linspace(-self._half, self._half, _LIGHTMAP_PX, dtype=np.float32)
        x, y = np.meshgrid(place, place)
        points = np.stack([x.ravel(), y.ravel(), np.zeros(x.size, np.float32)], axis=1)
        normals = np.tile(np.float32([0, 0, 1]), (len(points), 1))
        side = _LIGHTMAP_PX
        sharp = lighting.irradiance(points, normals).reshape(side, side, 3)
        self._sharp = cv2.GaussianBlur(sharp, (0, 0), 1.5)
        self._wide = cv2.GaussianBlur(sharp, (0, 0), side * 0.03 / (2.0 * float(self._half)))

    def at(self, points: NDArray[np.float32], blurred: bool = False) -> NDArray[np.float32]:
        """Irradiance (..., 3) below points (..., 3); beyond the map as on its rim."""
        scale = (_LIGHTMAP_PX - 1) / (2.0 * self._half)
        place = (points[..., :2] + self._half) * scale
        return sampled(self._wide if blurred else self._sharp, place[..., 0], place[..., 1])


class _Painter:
    """Draw frames at twice the size and bring them down."""

    def __init__(
        self,
        meshes: Sequence[trimesh.Trimesh],
        lit: Sequence[trimesh.Trimesh],
        brightest: Lamps,
        lightmap: _Lightmap,
        room: Room,
        gloss: NDArray[np.float64],
        camera: Camera,
    ) -> None:
        # Pixel u of the frame is at k u of the drawing, so that depth and labels are exact.
        self._camera = _scaled(camera, _SUPERSAMPLING)
        self._renderer = Renderer([*meshes, *lit], self._camera.width, self._camera.height)
        self._count = len(meshes)
        self._brightest, self._lightmap, self._room, self._gloss = brightest, lightmap, room, gloss

    def release(self) -> None:
        self._renderer.release()

    def frame(
        self, T_camera_world: NDArray[np.float64], poses: Sequence[NDArray[np.float64]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
        """Linear light (H, W, 3), depth (H, W) in metres and instances (H, W)."""
        view = self._room.view(self._camera, T_camera_world)
        plain = tuple(Placement(i, T, specular=0.0) for i, T in enumerate(poses))
        flat = self._renderer.render(Scene(self._camera, plain, _AS_PAINTED, ()))
        is_object = (flat.instances > 0) & (flat.depth < view.depth)
        light = self._room_light(view)
        far = cv2.GaussianBlur(light, (0, 0), _FAR_BLUR_PX * _SUPERSAMPLING)
        light = np.where(view.on_table[..., None], light, far)
        reflectance = linear_light(flat.rgb[is_object])
        light[is_object] = self._object_light(is_object, reflectance, T_camera_world, poses)

        k = _SUPERSAMPLING
        light = cv2.GaussianBlur(light, (0, 0), 0.5 * k)[::k, ::k]
        depth = np.where(is_object, flat.depth, view.depth)[::k, ::k]
        return light, depth, np.where(is_object, flat.instances, 0)[::k, ::k]

    def _object_light(
        self,
        is_object: NDArray[np.bool_],
        reflectance: NDArray[np.float32],
        T_camera_world: NDArray[np.float64],
        poses: Sequence[NDArray[np.float64]],
    ) -> NDArray[np.float32]:
        """Light (N, 3) that the object pixels send to the camera."""
        lit = tuple(Placement(self._count + i, T, specular=0.0) for i, T in enumerate(poses))
        arriving = self._renderer.render(Scene(self._camera, lit, _AS_PAINTED, ()))
        arriving = _MOST_LIGHT * linear_light(arriving.rgb[is_object])
        lamps = tuple(
            Light(tuple(T_camera_world[:3, :3] @ direction), tuple(irradiance))
            for direction, irradiance in zip(*self._brightest, strict=True)
        )
        shiny = tuple(
            Placement(self._count + i, T, float(gloss), 30.0, (0.0, 0.0, 0.0))
            for i, (T, gloss) in enumerate(zip(poses, self._gloss, strict=True))
        )
        highlights = self._renderer.render(Scene(self._camera, shiny, (0.0, 0.0, 0.0), lamps))
        # A highlight mirrors a lamp, which is hidden where little light arrives.
        open_to_lamps = np.clip(arriving.mean(1, keepdims=True), 0.0, 1.0)
        return reflectance * arriving + open_to_lamps * linear_light(highlights.rgb[is_object])

    def _room_light(self, view: RoomView) -> NDArray[np.float32]:
        table = self._lightmap.at(view.point)
        everywhere = self._brightest.irradiance.sum(0)
        # Beyond the table only the tone matters: dimmer below it, walls brighter to the top.
        height = np.clip((view.point[..., 2] + 0.74) / 2.2, 0.0, 1.0)
        offset = np.abs(view.point[..., :2]) / np.float32(self._room.table_half)
        under = np.clip((offset.max(-1) - 0.6) / 1.1, 0.35, 1.0)
        ambient = 0.6 * everywhere * np.where(height > 0.02, 0.55 + 0.5 * height, under)[..., None]
        return view.reflectance * np.where(view.on_table[..., None], table, ambient)


def _scaled(camera: Camera, k: float) -> Camera:
    """The camera whose pixel k u sees what pixel u saw."""
    size = round(camera.width * k), round(camera.height * k)
    return Camera(camera.fx * k, camera.fy * k, camera.cx * k, camera.cy * k, *size)
