"""Materials of path-traced scenes, as nodes of Blender."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def painted_material(bpy: Any, name: str, pixels: NDArray[np.float32]) -> Any:
    """Create the material of a mesh: its texture times its vertices' paint times its tint.

    Args:
        bpy: Blender's module.
        name: of the material.
        pixels: (rows, columns, 3) of the texture, linear.
    """
    height, width = pixels.shape[:2]
    image = bpy.data.images.new(name, width, height, float_buffer=True)
    image.colorspace_settings.name = "Non-Color"
    rgba = np.dstack([pixels, np.ones((height, width), np.float32)]).astype(np.float32)
    image.pixels.foreach_set(rgba.ravel())
    image.pack()
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    tree = _Nodes(material.node_tree)
    shader = material.node_tree.nodes["Principled BSDF"]
    texture = tree.add("ShaderNodeTexImage", image=image, extension="EXTEND")
    painted = tree.product(texture.outputs["Color"], tree.attribute("paint", "Vector"))
    tinted = tree.product(painted, tree.add("ShaderNodeObjectInfo").outputs["Color"])
    tree.link(tinted, shader.inputs["Base Color"])
    for own, taken in (("roughness", "Roughness"), ("specular", "Specular IOR Level")):
        tree.link(tree.attribute(own, "Fac", "OBJECT"), shader.inputs[taken])
    return material


def geometry_material(bpy: Any, stride: float) -> Any:
    """Create a material that glows with the place in the mesh's box.

    Args:
        bpy: Blender's module.
        stride: times the object's number is added to the place's x.
    """
    material = bpy.data.materials.new("geometry")
    material.use_nodes = True
    tree = _Nodes(material.node_tree)
    number = tree.add("ShaderNodeObjectInfo").outputs["Object Index"]
    shift = tree.add("ShaderNodeCombineXYZ")
    scaled = tree.add("ShaderNodeMath", operation="MULTIPLY")
    scaled.inputs[1].default_value = stride
    tree.link(number, scaled.inputs[0])
    tree.link(scaled.outputs[0], shift.inputs["X"])
    place = tree.add("ShaderNodeVectorMath", operation="ADD")
    tree.link(tree.attribute("place", "Vector"), place.inputs[0])
    tree.link(shift.outputs[0], place.inputs[1])
    glow = tree.add("ShaderNodeEmission")
    tree.link(place.outputs[0], glow.inputs["Color"])
    output = material.node_tree.nodes["Material Output"]
    tree.link(glow.outputs[0], output.inputs["Surface"])
    return material


class _Nodes:
    """The nodes of a material."""

    def __init__(self, tree: Any) -> None:
        self._tree = tree

    def add(self, kind: str, **settings: Any) -> Any:
        node = self._tree.nodes.new(kind)
        for name, value in settings.items():
            setattr(node, name, value)
        return node

    def link(self, output: Any, taken: Any) -> None:
        self._tree.links.new(output, taken)

    def attribute(self, name: str, output: str, kind: str = "GEOMETRY") -> Any:
        node = self.add("ShaderNodeAttribute", attribute_name=name, attribute_type=kind)
        return node.outputs[output]

    def product(self, a: Any, b: Any) -> Any:
        node = self.add("ShaderNodeVectorMath", operation="MULTIPLY")
        self.link(a, node.inputs[0])
        self.link(b, node.inputs[1])
        return node.outputs[0]
