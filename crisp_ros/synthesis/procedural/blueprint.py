"""Blueprints of procedural objects: painted parts, and the symmetries of the whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

if TYPE_CHECKING:
    from manifold3d import Manifold

Finish = Literal["print", "plastic", "metal", "wood", "ceramic", "cells", "keys"]
Wrap = Literal["cylinder", "box"]


class Part(NamedTuple):
    """One solid and what its surface looks like.

    Attributes:
        solid: in the frame of the object.
        finish: a print with brand and pictures, or a material.
        wrap: how the print goes around it: about the z axis, or a panel on each side of a box.
    """

    solid: Manifold
    finish: Finish = "plastic"
    wrap: Wrap = "box"


@dataclass(frozen=True)
class Blueprint:
    """An object before it becomes a mesh.

    Its frame is common to its kind: z is up, or along it where it has no up; x points to the
    handle, the spout or the broader side.

    Attributes:
        parts: overlap where they join.
        cavity: is cut out of all of them, or None; it has the finish of `inside`.
        order: rotations about z by 360 degrees / order map it onto itself; 0: every rotation.
        flips: so does half a rotation about x.
        inside: finish of the cavity.
    """

    parts: tuple[Part, ...]
    cavity: Manifold | None = None
    order: int = 1
    flips: bool = False
    inside: Finish = "plastic"

    @property
    def discrete_rotations(self) -> NDArray[np.float64]:
        """The rotations (S, 3, 3) about the centre of its box, identity first.

        Those about the z axis are left out where every one of them is a symmetry.
        """
        angles = np.arange(max(1, self.order)) * (2.0 * np.pi / max(1, self.order))
        group = Rotation.from_euler("z", angles[:, None]).as_matrix()
        if self.flips:
            group = np.concatenate([group, group @ np.diag([1.0, -1.0, -1.0])])
        return group
