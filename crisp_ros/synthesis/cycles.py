"""Path-traced scenes: Blender's Cycles through the `bpy` package, in place of the fast renderer.

Blender has one scene a process, so one renderer can be open at a time.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import trimesh
from numpy.typing import NDArray

from .cycles_materials import geometry_material, painted_material
from .renderer import Placement, RendererError, Rendering, Scene, albedo

_GAMMA = 2.2  # as in the fast renderer
_SHARP_DEG = 40.0  # edges between faces at a larger angle are not smoothed
PLACE_STRIDE = 2.0  # places go from 0 to 1; numbers of objects are added in steps of this


@dataclass(frozen=True)
class CyclesSettings:
    """Settings of path tracing.

    Attributes:
        samples: paths a pixel; what noise they leave is removed by Open Image Denoise.
        bounces: of a path, at most.
        seed: of the paths.
    """

    samples: int = 32
    bounces: int = 4
    seed: int = 0


class TexturedQuad(NamedTuple):
    """A surface around the objects.

    Attributes:
        corners: (4, 3) in order, world frame, metres.
        reflectance: (R, C, 3) linear, its first row from the first corner to the second.
        casts_shadow: whether it stops distant light; a wall that is only seen does not.
    """

    corners: NDArray[np.float64]
    reflectance: NDArray[np.float32]
    casts_shadow: bool


class CyclesView(NamedTuple):
    """A path-traced frame.

    Attributes:
        light: (H, W, 3) linear, of the objects undimmed where they cover part of a pixel.
        depth: (H, W) metres at pixel centres, 0 where nothing is.
        instances: as in `Rendering`.
        pnc: as in `Rendering`.
    """

    light: NDArray[np.float32]
    depth: NDArray[np.float32]
    instances: NDArray[np.int32]
    pnc: NDArray[np.float32]


class CyclesRenderer:
    """Path-trace scenes of a fixed set of meshes, to the same geometry as `Renderer`.

    Args:
        meshes: textured or plain, metres, object frame.
        width, height: of every image, pixels.
        settings: see `CyclesSettings`.
        quads: what stands around, in a world frame.

    Raises:
        RendererError: no `bpy` here, or another renderer of this kind is open.
    """

    _open = False

    def __init__(
        self,
        meshes: Sequence[trimesh.Trimesh],
        width: int,
        height: int,
        settings: CyclesSettings | None = None,
        quads: Sequence[TexturedQuad] = (),
    ) -> None:
        try:
            import bpy
        except ModuleNotFoundError as error:
            raise RendererError(
                f"{error}; Cycles needs: pip install 'crisp_ros[cycles]', on Python 3.11"
            ) from error
        if CyclesRenderer._open:
            raise RendererError("Blender has one scene a process: release the other renderer first")
        CyclesRenderer._open = True
        self.width, self.height = width, height
        self._bpy, self._settings = bpy, settings or CyclesSettings()
        with _silent():
            bpy.ops.wm.read_factory_settings(use_empty=True)
        self._set_up()
        self._meshes = [self._mesh(f"mesh {i}", mesh) for i, mesh in enumerate(meshes)]
        self._quads = [self._quad(f"quad {i}", quad) for i, quad in enumerate(quads)]

    def release(self) -> None:
        """Empty Blender's scene, so that another renderer can be opened."""
        with _silent():
            self._bpy.ops.wm.read_factory_settings(use_empty=True)
        CyclesRenderer._open = False

    def render(self, scene: Scene) -> Rendering:
        """Draw a scene as the fast renderer does, with shadows and light from object to object."""
        view = self.view(scene)
        shown = np.clip(view.light, 0.0, 1.0) ** (1.0 / _GAMMA)
        rgb = np.rint(255.0 * shown).astype(np.uint8)
        rgb[view.instances == 0] = 0
        return Rendering(rgb, view.depth, view.instances, view.pnc)

    def view(self, scene: Scene, T_camera_world: NDArray[np.float64] | None = None) -> CyclesView:
        """Draw a scene with what stands around it.

        Args:
            scene: its camera's size must be the renderer's.
            T_camera_world: (4, 4) where the quads are; only needed with such.
        """
        camera = scene.camera
        if (camera.width, camera.height) != (self.width, self.height):
            raise ValueError(
                f"camera is {camera.width}x{camera.height}, renderer {self.width}x{self.height}"
            )
        self._place(scene, T_camera_world)
        colour = self._traced()
        geometry = self._traced(geometry=True)
        return self._read(scene, colour, geometry, T_camera_world)

    def _set_up(self) -> None:
        scene = self._scene
        scene.render.engine = "CYCLES"
        scene.cycles.device = "CPU"
        scene.cycles.seed = self._settings.seed
        scene.cycles.max_bounces = self._settings.bounces
        scene.cycles.use_adaptive_sampling = False
        scene.render.resolution_x, scene.render.resolution_y = self.width, self.height
        scene.render.resolution_percentage = 100
        scene.render.film_transparent = True
        scene.render.use_persistent_data = True
        output = scene.render.image_settings
        output.file_format, output.color_mode, output.color_depth = "OPEN_EXR", "RGBA", "32"
        lens = self._bpy.data.cameras.new("camera")
        lens.sensor_fit, lens.clip_start, lens.clip_end = "HORIZONTAL", 0.01, 50.0
        self._camera = self._linked("camera", lens)
        # Blender's cameras look along -z with y up, optical frames along z with y down.
        self._camera.matrix_world = np.diag([1.0, -1.0, -1.0, 1.0]).tolist()
        scene.camera = self._camera
        world = self._bpy.data.worlds.new("world")
        world.use_nodes = True
        scene.world = world
        self._ambient = world.node_tree.nodes["Background"].inputs
        self._geometry = geometry_material(self._bpy, PLACE_STRIDE)

    @property
    def _scene(self) -> Any:
        return self._bpy.context.scene

    def _linked(self, name: str, data: Any) -> Any:
        made = self._bpy.data.objects.new(name, data)
        self._scene.collection.objects.link(made)
        return made

    def _mesh(self, name: str, mesh: trimesh.Trimesh) -> _Mesh:
        look = albedo(mesh)
        pixels = (look.pixels.astype(np.float32) / 255.0) ** _GAMMA
        data = self._mesh_data(name, mesh.vertices, mesh.faces, look.uv, look.paint**_GAMMA, pixels)
        data.shade_smooth()
        data.set_sharp_from_angle(angle=np.deg2rad(_SHARP_DEG))
        return _Mesh(data, mesh.bounds[0], mesh.extents)

    def _quad(self, name: str, quad: TexturedQuad) -> _Quad:
        corners = np.asarray(quad.corners, np.float64)
        uv = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        faces = np.array([[0, 1, 2], [0, 2, 3]])
        data = self._mesh_data(name, corners, faces, uv, np.ones((4, 3)), quad.reflectance)
        placed = self._linked(name, data)
        placed["roughness"], placed["specular"] = 0.7, 0.3
        placed.visible_shadow = placed.visible_diffuse = quad.casts_shadow
        lower = corners.min(axis=0)
        return _Quad(placed, lower, corners.max(axis=0) - lower)

    def _mesh_data(
        self,
        name: str,
        vertices: NDArray[np.float64],
        faces: NDArray[np.int64],
        uv: NDArray[np.float64],
        paint: NDArray[np.float64],
        pixels: NDArray[np.float32],
    ) -> Any:
        """A Blender mesh that knows of each vertex its colour and its place in the mesh's box."""
        data = self._bpy.data.meshes.new(name)
        vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces)
        data.from_pydata(vertices.tolist(), [], faces.tolist())
        data.uv_layers.new(name="uv").data.foreach_set(
            "uv", np.asarray(uv, np.float32)[faces.ravel()].ravel()
        )
        extents = np.maximum(np.ptp(vertices, axis=0), 1e-9)
        for kind, values in (("paint", paint), ("place", (vertices - vertices.min(0)) / extents)):
            attribute = data.attributes.new(kind, "FLOAT_VECTOR", "POINT")
            attribute.data.foreach_set("vector", np.asarray(values, np.float32).ravel())
        data.materials.append(painted_material(self._bpy, name, pixels))
        return data

    def _place(self, scene: Scene, T_camera_world: NDArray[np.float64] | None) -> None:
        """Move everything to where it is seen from the camera, which stays at the origin."""
        objects = self._bpy.data.objects
        for old in [o for o in objects if o.name.startswith(("placed", "light"))]:
            light = old.data if old.type == "LIGHT" else None
            objects.remove(old)
            if light is not None:
                self._bpy.data.lights.remove(light)
        for number, placement in enumerate(scene.placements, start=1):
            self._place_object(number, placement)
        for number, quad in enumerate(self._quads, start=len(scene.placements) + 1):
            quad.placed.matrix_world = np.asarray(T_camera_world).T.tolist()
            quad.placed.pass_index = number
        for number, light in enumerate(scene.lights):
            self._place_light(number, light.direction, light.colour, light.width_rad)
        self._ambient["Color"].default_value = (*scene.ambient, 1.0)
        camera, lens, render = scene.camera, self._camera.data, self._scene.render
        aspect = camera.fx / camera.fy  # of a pixel, height over width
        render.pixel_aspect_x, render.pixel_aspect_y = max(1.0, 1.0 / aspect), max(1.0, aspect)
        lens.sensor_width = 36.0
        lens.lens = camera.fx * lens.sensor_width / self.width
        # The principal point, in widths of the image.
        lens.shift_x = -(camera.cx - (self.width - 1) / 2.0) / self.width
        lens.shift_y = (camera.cy - (self.height - 1) / 2.0) / self.width * aspect

    def _place_object(self, number: int, placement: Placement) -> None:
        placed = self._linked(f"placed {number}", self._meshes[placement.mesh].data)
        placed.matrix_world = np.asarray(placement.T_camera_object).T.tolist()
        placed.pass_index = number
        placed.color = (*placement.tint, 1.0)
        # The width of a Blinn highlight of this exponent.
        placed["roughness"] = float((2.0 / (placement.shininess + 2.0)) ** 0.25)
        placed["specular"] = float(min(1.0, placement.specular))

    def _place_light(
        self,
        number: int,
        direction: tuple[float, float, float],
        colour: tuple[float, float, float],
        width_rad: float,
    ) -> None:
        data = self._bpy.data.lights.new(f"light {number}", "SUN")
        # A white surface that faces a light of colour 1 shall look 1.
        data.energy, data.color, data.angle = np.pi, colour, width_rad
        forward = np.asarray(direction, np.float64) / np.linalg.norm(direction)
        side = np.cross(forward, np.eye(3)[np.abs(forward).argmin()])
        side /= np.linalg.norm(side)
        T = np.eye(4)
        T[:3, :3] = np.stack([side, np.cross(forward, side), forward], axis=1)  # shines along -z
        self._linked(f"light {number}", data).matrix_world = T.T.tolist()

    def _traced(self, geometry: bool = False) -> NDArray[np.float32]:
        """(H, W, 4): colour, or of the pixel centres what the geometry material shows."""
        scene = self._scene
        scene.view_layers[0].material_override = self._geometry if geometry else None
        scene.cycles.samples = 1 if geometry else self._settings.samples
        scene.cycles.use_denoising = not geometry
        scene.cycles.filter_width = 0.01 if geometry else 1.5
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "traced.exr"
            scene.render.filepath = str(path)
            with _silent():
                self._bpy.ops.render.render(write_still=True)
                image = self._bpy.data.images.load(str(path))
            image.colorspace_settings.name = "Non-Color"
            rgba = np.empty(self.width * self.height * 4, np.float32)
            image.pixels.foreach_get(rgba)
            self._bpy.data.images.remove(image)
        return rgba.reshape(self.height, self.width, 4)[::-1]

    def _read(
        self,
        scene: Scene,
        colour: NDArray[np.float32],
        geometry: NDArray[np.float32],
        T_camera_world: NDArray[np.float64] | None,
    ) -> CyclesView:
        numbers = np.floor(geometry[..., 0] / PLACE_STRIDE).astype(np.int32)
        numbers[geometry[..., 3] < 0.5] = 0
        place = geometry[..., :3].astype(np.float64)
        place[..., 0] -= PLACE_STRIDE * numbers
        count = len(scene.placements)
        boxes = [self._meshes[p.mesh][1:] for p in scene.placements]
        boxes += [quad[1:] for quad in self._quads]
        lower = np.array([np.zeros(3), *(box[0] for box in boxes)])
        extents = np.array([np.zeros(3), *(box[1] for box in boxes)])
        rows = np.array(
            [
                np.zeros(4),
                *(p.T_camera_object[2] for p in scene.placements),
                *(T_camera_world[2] for _ in self._quads),
            ]
        )
        points = lower[numbers] + extents[numbers] * place
        depth = np.einsum("hwc,hwc->hw", points, rows[numbers, :3]) + rows[numbers, 3]
        instances = np.where(numbers <= count, numbers, 0)
        pnc = np.where(instances[..., None] > 0, points, 0.0)
        alpha = colour[..., 3:]
        light = np.where(alpha > 0.0, colour[..., :3] / np.maximum(alpha, 1e-6), 0.0)
        return CyclesView(
            light.astype(np.float32),
            depth.astype(np.float32),
            instances.astype(np.int32),
            pnc.astype(np.float32),
        )


class _Mesh(NamedTuple):
    data: Any
    lower: NDArray[np.float64]
    extents: NDArray[np.float64]


class _Quad(NamedTuple):
    placed: Any
    lower: NDArray[np.float64]
    extents: NDArray[np.float64]


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Silence Blender, which prints its progress to standard output."""
    sys.stdout.flush()
    kept = os.dup(1)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
