"""Writing a mesh as OBJ with its texture, under names of its own."""

from __future__ import annotations

from pathlib import Path

import trimesh
from trimesh.exchange.obj import export_obj

from crisp_ros.data.mesh_colours import texture_image


def write_textured_obj(path: Path, mesh: trimesh.Trimesh) -> None:
    """Write NAME.obj, and for a textured mesh NAME.mtl and an image next to it.

    Args:
        path: ends in .obj; its folder is made.
        mesh: with a texture or without.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    named = mesh.copy()
    if texture_image(named) is not None:
        named.visual.material.name = path.stem
    text, files = export_obj(named, return_texture=True, mtl_name=f"{path.stem}.mtl")
    for name, content in files.items():
        (path.parent / name).write_bytes(content)
    path.write_text(text)
