"""The colours of a mesh, whatever kind of material holds them, in one form.

That form is a texture with its coordinates (`texture_image` and `visual.uv`), colours of vertices,
or nothing. Physically based materials, colours of faces, plain colours and several textures in one
file become one of these when a mesh is read, so that all that draws or compares colours sees the
same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import trimesh
from numpy.typing import NDArray
from trimesh.visual import ColorVisuals, TextureVisuals
from trimesh.visual.material import MultiMaterial, SimpleMaterial

if TYPE_CHECKING:
    from PIL.Image import Image

_MAX_TILES = 8  # how often a texture may repeat along an axis where it is packed with others
_MAX_ATLAS_PX = 4096
_EDGE_PX = 4
_MAX_PLAIN = 64  # plain colours of a mesh that has textures as well
_GREY = (102, 102, 102)  # of what has no colour, trimesh's


class _Look(NamedTuple):
    """Colours of one mesh: an image with uv (V, 2), or colours (V, 3) uint8, or neither."""

    image: Image | None = None
    uv: NDArray[np.float64] | None = None
    colours: NDArray[np.uint8] | None = None

    @property
    def known(self) -> bool:
        return self.image is not None or self.colours is not None


def texture_image(mesh: trimesh.Trimesh) -> Image | None:
    """The colour image (Pillow) of a textured mesh; None without one or without its coordinates."""
    material = getattr(mesh.visual, "material", None)
    image = getattr(material, "image", None)
    if image is None:
        image = getattr(material, "baseColorTexture", None)
    return image if getattr(mesh.visual, "uv", None) is not None else None


def vertex_colours(mesh: trimesh.Trimesh) -> NDArray[np.uint8]:
    """Colours (V, 3) of the vertices of a mesh without a texture, grey where there are none."""
    look = _look(mesh, [])
    if look.colours is None:
        return np.tile(np.array(_GREY, np.uint8), (len(mesh.vertices), 1))
    return look.colours


def has_colours(mesh: trimesh.Trimesh) -> bool:
    """Whether anything is known of a mesh's colours."""
    return texture_image(mesh) is not None or mesh.visual.kind in ("vertex", "face")


def coloured_samples(
    mesh: trimesh.Trimesh, count: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points (count, 3) spread over a surface by area, and their colours (count, 3), 0 to 1."""
    points, faces, weights = trimesh.sample.sample_surface(
        mesh, count, seed=seed, return_barycentric=True
    )
    corners = mesh.faces[faces]
    image = texture_image(mesh)
    if image is None:
        colours = vertex_colours(mesh).astype(np.float64)[corners]
        return points, np.einsum("nk,nkc->nc", weights, colours) / 255.0
    uv = np.einsum("nk,nkc->nc", weights, mesh.visual.uv[corners])
    pixels = np.asarray(image.convert("RGB"))
    place = np.floor(uv % 1.0 * (image.width, image.height)).astype(int)
    column, row = np.minimum(place, np.array(image.size) - 1).T
    return points, pixels[image.height - 1 - row, column] / 255.0


def merge_looks(meshes: Sequence[trimesh.Trimesh], notes: list[str]) -> trimesh.Trimesh:
    """One mesh of several, with their colours in one form.

    Args:
        meshes: at least one, with trimesh's visuals of any kind, which they lose.
        notes: takes a line for each thing that is missing or was given up.
    """
    meshes = [_with_own_colours(mesh) for mesh in meshes]
    looks = [_look(mesh, notes) for mesh in meshes]
    images = {id(look.image): look.image for look in looks if look.image is not None}
    if not any(look.known for look in looks):
        return _joined(meshes, None)
    if not images:
        colours = [_colours_of(look, mesh) for look, mesh in zip(looks, meshes, strict=True)]
        return _joined(meshes, ColorVisuals(vertex_colors=np.vstack(colours)))
    if len(images) == 1 and all(look.image is not None for look in looks):
        uv = np.vstack([look.uv for look in looks])
        return _joined(meshes, _textured(uv, looks[0].image))
    parts = [_packable(mesh, look) for mesh, look in zip(meshes, looks, strict=True)]
    image, uv = _atlas(
        [image for part in parts for image in part.images],
        [coordinates for part in parts for coordinates in part.uv],
    )
    merged = _joined([mesh for part in parts for mesh in part.meshes], None)
    merged.visual = _textured(uv, image)
    return merged


def _joined(
    meshes: Sequence[trimesh.Trimesh], visual: ColorVisuals | TextureVisuals | None
) -> trimesh.Trimesh:
    for mesh in meshes:
        mesh.visual = ColorVisuals()
    joined = trimesh.util.concatenate(list(meshes)) if len(meshes) > 1 else meshes[0]
    if visual is not None:
        joined.visual = visual
    return joined


def _textured(uv: NDArray[np.float64], image: Image) -> TextureVisuals:
    return TextureVisuals(uv=uv, material=SimpleMaterial(image=image))


def _with_own_colours(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """The mesh; where its faces have colours, with vertices of their own that carry these."""
    if mesh.visual.kind != "face":
        return mesh
    colours = np.repeat(np.asarray(mesh.visual.face_colors), 3, axis=0)
    apart = _unshared(mesh)
    apart.visual = ColorVisuals(vertex_colors=colours)
    return apart


def _unshared(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """The bare mesh with three vertices a face, shaded as before."""
    corners = np.asarray(mesh.faces).ravel()
    return trimesh.Trimesh(
        mesh.vertices[corners],
        np.arange(len(corners)).reshape(-1, 3),
        vertex_normals=mesh.vertex_normals[corners],
        process=False,
    )


def _look(mesh: trimesh.Trimesh, notes: list[str]) -> _Look:
    visual = mesh.visual
    if visual.kind in ("vertex", "face"):
        return _Look(colours=np.asarray(visual.vertex_colors)[:, :3])
    if visual.kind != "texture":
        return _Look()
    material = visual.material
    if isinstance(material, MultiMaterial):
        material = material.materials[0] if material.materials else None
    image, factor = _base_colour(material)
    paint = visual.vertex_attributes.get("color")
    if image is not None:
        try:
            image = image.convert("RGB")
        except (OSError, ValueError, SyntaxError) as error:  # a file that breaks off
            notes.append(f"a texture cannot be read ({error}): plain colour instead")
            image = None
    uv = visual.uv
    if image is not None and (uv is None or len(uv) != len(mesh.vertices)):
        notes.append("a texture without texture coordinates: plain colour instead")
        image = None
    if image is not None:
        if not np.isfinite(uv).all():
            notes.append("texture coordinates that are no numbers: set to 0")
        uv = np.nan_to_num(np.asarray(uv, np.float64), posinf=0.0, neginf=0.0)
        size, offset = _placement(material)
        return _Look(_multiplied(image, factor), uv * size + offset)
    if paint is not None and len(paint) == len(mesh.vertices):
        colours = trimesh.visual.color.to_float(np.asarray(paint))[:, :3]
        return _Look(colours=_srgb(colours * (1.0 if factor is None else factor)))
    if factor is None:
        return _Look()
    return _Look(colours=np.tile(_srgb(factor), (len(mesh.vertices), 1)))


def _base_colour(material: Any) -> tuple[Image | None, NDArray[np.float64] | None]:
    """The colour image of a material and the linear colour (3,) that it is multiplied with."""
    if material is None:
        return None, None
    if hasattr(material, "baseColorFactor"):
        factor = material.baseColorFactor
        factor = None if factor is None else trimesh.visual.color.to_float(factor)[:3]
        if material.baseColorTexture is not None and _is_default(factor):
            factor = None  # trimesh writes its own default colour next to a texture
        # Without one it is white by the standard of glTF.
        return material.baseColorTexture, np.ones(3) if factor is None else factor
    image = getattr(material, "image", None)
    diffuse = np.asarray(getattr(material, "diffuse", _GREY))[:3]
    stated = "kd" in getattr(material, "kwargs", {}) or tuple(diffuse) != _GREY
    if image is not None or not stated:
        # Exporters write any diffuse colour next to a texture, often black: the texture counts.
        return image, None
    return None, _linear(diffuse / 255.0)


def _is_default(factor: NDArray[np.float64] | None) -> bool:
    return factor is not None and np.allclose(255.0 * factor, _GREY, atol=0.5)


def _placement(material: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Factor (2,) and offset (2,) of texture coordinates, see `mesh_assets`."""
    words = getattr(material, "kwargs", {}).get("texture_placement") or ("1", "1", "0", "0")
    values = np.array(words, np.float64)
    return values[:2], values[2:]


def _multiplied(image: Image, factor: NDArray[np.float64] | None) -> Image:
    from PIL import Image as images  # only meshes with textures need it

    if factor is None or (factor >= 0.999).all():
        return image
    shades = _srgb(_linear(np.arange(256) / 255.0)[:, None] * factor)
    pixels = np.asarray(image)
    return images.fromarray(np.stack([shades[pixels[..., c], c] for c in range(3)], axis=-1))


def _linear(colour: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear light of sRGB values 0 to 1."""
    return np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)


def _srgb(light: NDArray[np.float64]) -> NDArray[np.uint8]:
    """8-bit sRGB of linear light 0 to 1."""
    light = np.clip(light, 0.0, 1.0)
    value = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255.0 * value).astype(np.uint8)


def _colours_of(look: _Look, mesh: trimesh.Trimesh) -> NDArray[np.uint8]:
    if look.colours is not None:
        return look.colours
    return np.tile(np.array(_GREY, np.uint8), (len(mesh.vertices), 1))


class _Packable(NamedTuple):
    """Meshes with one image and one set of coordinates in [0, 1] each."""

    meshes: list[trimesh.Trimesh]
    images: list[NDArray[np.uint8]]
    uv: list[NDArray[np.float64]]


def _packable(mesh: trimesh.Trimesh, look: _Look) -> _Packable:
    if look.image is None:
        return _plain_parts(mesh, _colours_of(look, mesh))
    uv, image = look.uv, look.image
    tiles = np.ones(2, int)
    if uv.min() < 0.0 or uv.max() > 1.0:
        mesh, uv = _unshared(mesh), uv[np.asarray(mesh.faces).ravel()]
        corners = uv.reshape(-1, 3, 2)
        corners = corners - np.floor(corners.min(axis=1, keepdims=True) + 1e-6)
        tiles = np.clip(np.ceil(corners.max(axis=(0, 1)) - 1e-6), 1, _MAX_TILES).astype(int)
        uv = corners.reshape(-1, 2) / tiles
    scale = min(1.0, _MAX_ATLAS_PX / max(tiles * image.size))
    if scale < 1.0:
        image = image.resize([max(1, round(side * scale)) for side in image.size])
    return _Packable([mesh], [np.tile(np.asarray(image), (tiles[1], tiles[0], 1))], [uv])


def _plain_parts(mesh: trimesh.Trimesh, colours: NDArray[np.uint8]) -> _Packable:
    """A mesh cut up by the mean colours of its faces, made coarser where these are too many."""
    of_face = colours[np.asarray(mesh.faces)].astype(np.float64).mean(axis=1)
    for step in (1, 8, 16, 32, 64, 128):
        coarse = (np.rint(of_face / step) * step).clip(0, 255).astype(np.uint8)
        distinct, which = np.unique(coarse, axis=0, return_inverse=True)
        if len(distinct) <= _MAX_PLAIN:
            break
    parts = _Packable([], [], [])
    for number, colour in enumerate(distinct):
        part = mesh.submesh([np.flatnonzero(which.ravel() == number)], append=True, repair=False)
        parts.meshes.append(part)
        parts.images.append(np.tile(colour, (1, 1, 1)))
        parts.uv.append(np.full((len(part.vertices), 2), 0.5))
    return parts


def _atlas(
    pictures: Sequence[NDArray[np.uint8]], uvs: Sequence[NDArray[np.float64]]
) -> tuple[Image, NDArray[np.float64]]:
    """One image of several (H, W, 3), in square cells, and their coordinates in it, stacked.

    Every picture is surrounded by its own edge, so that filters do not mix neighbours.
    """
    from PIL import Image as images  # only meshes with textures need it

    columns = int(np.ceil(np.sqrt(len(pictures))))
    largest = max(max(picture.shape[:2]) for picture in pictures)
    inner = max(1, min(largest, _MAX_ATLAS_PX // columns - 2 * _EDGE_PX))
    cell = inner + 2 * _EDGE_PX
    sheet = np.zeros((columns * cell, columns * cell, 3), np.uint8)
    placed = []
    for number, (picture, uv) in enumerate(zip(pictures, uvs, strict=True)):
        row, column = divmod(number, columns)
        fitted = np.asarray(images.fromarray(picture).resize((inner, inner)))
        padded = np.pad(fitted, ((_EDGE_PX, _EDGE_PX), (_EDGE_PX, _EDGE_PX), (0, 0)), "edge")
        sheet[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell] = padded
        corner = np.array([column * cell + _EDGE_PX, (columns - row) * cell - _EDGE_PX - inner])
        placed.append((corner + uv * inner) / (columns * cell))
    return images.fromarray(sheet), np.vstack(placed)
