"""A headless OpenGL renderer of textured objects: colour, depth, instances and PNC in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import moderngl
import numpy as np
import trimesh
from numpy.typing import NDArray

from crisp_ros.data.mesh_colours import texture_image, vertex_colours
from crisp_ros.observation.frame import Camera

_VERTEX_SHADER = """
#version 330
uniform mat4 projection;
uniform mat4 T_camera_object;
in vec3 position;
in vec3 normal;
in vec2 uv;
in vec3 paint;
out vec3 object_point;
out vec3 camera_point;
out vec3 camera_normal;
out vec2 texture_uv;
out vec3 vertex_paint;
void main() {
    vec4 p = T_camera_object * vec4(position, 1.0);
    object_point = position;
    camera_point = p.xyz;
    camera_normal = mat3(T_camera_object) * normal;
    texture_uv = uv;
    vertex_paint = paint;
    gl_Position = projection * p;
}
"""

_FRAGMENT_SHADER = """
#version 330
uniform sampler2D albedo;
uniform float instance;
uniform vec3 ambient;
uniform int light_count;
uniform vec3 light_direction[4];
uniform vec3 light_colour[4];
uniform float specular;
uniform float shininess;
uniform vec3 tint;
in vec3 object_point;
in vec3 camera_point;
in vec3 camera_normal;
in vec2 texture_uv;
in vec3 vertex_paint;
layout(location = 0) out vec4 colour;
layout(location = 1) out vec4 pnc_instance;
void main() {
    vec3 view = normalize(-camera_point);
    vec3 n = normalize(camera_normal);
    if (dot(n, view) < 0.0) n = -n;
    vec3 base = pow(texture(albedo, texture_uv).rgb * vertex_paint, vec3(2.2)) * tint;
    vec3 light = base * ambient;
    for (int i = 0; i < light_count; ++i) {
        vec3 l = light_direction[i];
        light += base * light_colour[i] * max(dot(n, l), 0.0);
        light += specular * light_colour[i] * pow(max(dot(n, normalize(l + view)), 0.0), shininess);
    }
    colour = vec4(pow(clamp(light, 0.0, 1.0), vec3(1.0 / 2.2)), 1.0);
    pnc_instance = vec4(object_point, instance);
}
"""

_NEAR_M, _FAR_M = 0.05, 20.0
_MAX_TEXTURE_PX = 512  # larger ones only cost cache misses at the distances a table is seen from


class RendererError(RuntimeError):
    """Nothing can be drawn on this machine; says what is missing."""


@dataclass(frozen=True)
class Light:
    """A distant light.

    Attributes:
        direction: unit vector from the scene to the light, camera frame.
        colour: irradiance of a surface that faces it.
        width_rad: angle that it fills, for renderers that draw soft shadows; here it is a point.
    """

    direction: tuple[float, float, float]
    colour: tuple[float, float, float]
    width_rad: float = 0.15


@dataclass(frozen=True)
class Placement:
    """One object of a scene.

    Attributes:
        mesh: index of its mesh.
        T_camera_object: (4, 4) pose.
        specular: weight of the highlight.
        shininess: exponent of the highlight.
        tint: factor on its linear colours.
    """

    mesh: int
    T_camera_object: NDArray[np.float64]
    specular: float = 0.1
    shininess: float = 20.0
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Scene:
    """The content of one frame.

    Attributes:
        camera: that sees it.
        placements: the objects.
        ambient: light from all around.
        lights: distant lights, of which the fast renderer draws the first four.
    """

    camera: Camera
    placements: tuple[Placement, ...]
    ambient: tuple[float, float, float] = (0.4, 0.4, 0.4)
    lights: tuple[Light, ...] = field(default=(Light((0.0, -0.7071, -0.7071), (0.7, 0.7, 0.7)),))


@dataclass(frozen=True)
class Rendering:
    """A rendered frame, before any sensor model.

    Attributes:
        rgb: (H, W, 3) uint8, black where nothing is.
        depth: (H, W) float32 metres, 0 where nothing is.
        instances: (H, W) int32, placement index + 1, 0 where nothing is.
        pnc: (H, W, 3) float32 object-frame metres, 0 where nothing is.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    instances: NDArray[np.int32]
    pnc: NDArray[np.float32]


class Renderer:
    """Draw scenes of a fixed set of meshes through EGL, on a CPU (llvmpipe) or a GPU.

    One instance belongs to the thread that made it.

    Args:
        meshes: textured (PNG or vertex colour) or plain meshes, metres, object frame.
        width, height: size of every rendered frame, pixels.

    Raises:
        RendererError: where no EGL device can be opened (on Debian: libegl1, libgl1-mesa-dri).
    """

    def __init__(self, meshes: Sequence[trimesh.Trimesh], width: int, height: int) -> None:
        try:
            self._context = moderngl.create_standalone_context(backend="egl", require=330)
        except Exception as error:
            raise RendererError(
                "no EGL context for the renderer: install libegl1, libgl1 and libgl1-mesa-dri"
            ) from error
        self.width, self.height = width, height
        self._program = self._context.program(_VERTEX_SHADER, _FRAGMENT_SHADER)
        self._colour = self._context.texture((width, height), 4)
        self._geometry = self._context.texture((width, height), 4, dtype="f4")
        self._target = self._context.framebuffer(
            [self._colour, self._geometry], self._context.depth_renderbuffer((width, height))
        )
        self._objects = [self._upload(mesh) for mesh in meshes]

    def release(self) -> None:
        """Free the OpenGL context."""
        self._context.release()

    def render(self, scene: Scene) -> Rendering:
        """Draw a scene. The camera's size must be the renderer's."""
        camera = scene.camera
        if (camera.width, camera.height) != (self.width, self.height):
            raise ValueError(
                f"camera is {camera.width}x{camera.height}, renderer {self.width}x{self.height}"
            )
        with self._context:  # another renderer may have drawn last
            return self._draw(scene)

    def _draw(self, scene: Scene) -> Rendering:
        camera = scene.camera
        self._target.use()
        self._context.viewport = (0, 0, self.width, self.height)
        self._context.enable_only(moderngl.DEPTH_TEST)
        self._target.clear(0.0, 0.0, 0.0, 0.0)
        program = self._program
        program["projection"].write(_projection(camera).T.astype("f4").tobytes())
        program["ambient"] = scene.ambient
        lights = scene.lights[:4]
        program["light_count"] = len(lights)
        directions = np.zeros((4, 3), "f4")
        colours = np.zeros((4, 3), "f4")
        for i, light in enumerate(lights):
            directions[i] = np.asarray(light.direction) / np.linalg.norm(light.direction)
            colours[i] = light.colour
        program["light_direction"].write(directions.tobytes())
        program["light_colour"].write(colours.tobytes())
        for i, placement in enumerate(scene.placements):
            array, texture = self._objects[placement.mesh]
            program["T_camera_object"].write(placement.T_camera_object.T.astype("f4").tobytes())
            program["instance"] = float(i + 1)
            program["specular"] = placement.specular
            program["shininess"] = placement.shininess
            program["tint"] = placement.tint
            texture.use(0)
            array.render(moderngl.TRIANGLES)
        return self._read(scene)

    def _read(self, scene: Scene) -> Rendering:
        shape = (self.height, self.width, 4)
        rgba = np.frombuffer(self._colour.read(), np.uint8).reshape(shape)
        geometry = np.frombuffer(self._geometry.read(), np.float32).reshape(shape)
        instances = np.rint(geometry[..., 3]).astype(np.int32)
        rows = np.zeros((len(scene.placements) + 1, 4))
        for i, placement in enumerate(scene.placements):
            rows[i + 1] = placement.T_camera_object[2]
        rows = rows.astype(np.float32)
        pnc = geometry[..., :3]
        depth = np.einsum("hwc,hwc->hw", pnc, rows[instances, :3]) + rows[instances, 3]
        return Rendering(rgba[..., :3].copy(), depth.astype(np.float32), instances, pnc.copy())

    def _upload(self, mesh: trimesh.Trimesh) -> tuple[moderngl.VertexArray, moderngl.Texture]:
        pixels, uv, paint = albedo(mesh)
        height, width = pixels.shape[:2]
        texture = self._context.texture((width, height), 3, np.ascontiguousarray(pixels).tobytes())
        texture.build_mipmaps()
        texture.filter = (moderngl.LINEAR_MIPMAP_LINEAR, moderngl.LINEAR)
        vertices = np.hstack([mesh.vertices, mesh.vertex_normals, uv, paint]).astype("f4")
        array = self._context.vertex_array(
            self._program,
            [
                (
                    self._context.buffer(vertices.tobytes()),
                    "3f 3f 2f 3f",
                    "position",
                    "normal",
                    "uv",
                    "paint",
                )
            ],
            self._context.buffer(np.asarray(mesh.faces, "i4").tobytes()),
        )
        return array, texture


class Albedo(NamedTuple):
    """The colours of a mesh, which are the product of texture and paint.

    Attributes:
        pixels: (rows, columns, 3) of the texture, first row at v = 0.
        uv: (V, 2) texture coordinates of the vertices.
        paint: (V, 3) of the vertices, 0 to 1.
    """

    pixels: NDArray[np.uint8]
    uv: NDArray[np.float64]
    paint: NDArray[np.float64]


def albedo(mesh: trimesh.Trimesh) -> Albedo:
    """The colours of a mesh: its texture, or those of its vertices."""
    image = texture_image(mesh)
    if image is not None:
        image = image.convert("RGB")
        scale = min(1.0, _MAX_TEXTURE_PX / max(image.size))
        if scale < 1.0:
            image = image.resize([max(1, round(s * scale)) for s in image.size])
        uv = np.asarray(mesh.visual.uv)
        return Albedo(np.asarray(image)[::-1], uv, np.ones_like(mesh.vertices))
    paint = vertex_colours(mesh) / 255.0
    return Albedo(np.full((1, 1, 3), 255, np.uint8), np.zeros((len(paint), 2)), paint)


def _projection(camera: Camera) -> NDArray[np.float64]:
    """Clip-space matrix for an optical frame (z forward, y down); row 0 of a read is v = 0."""
    w, h = camera.width, camera.height
    depth_scale = (_FAR_M + _NEAR_M) / (_FAR_M - _NEAR_M)
    depth_shift = -2.0 * _FAR_M * _NEAR_M / (_FAR_M - _NEAR_M)
    return np.array(
        [
            [2.0 * camera.fx / w, 0.0, (2.0 * camera.cx + 1.0) / w - 1.0, 0.0],
            [0.0, 2.0 * camera.fy / h, (2.0 * camera.cy + 1.0) / h - 1.0, 0.0],
            [0.0, 0.0, depth_scale, depth_shift],
            [0.0, 0.0, 1.0, 0.0],
        ]
    )
