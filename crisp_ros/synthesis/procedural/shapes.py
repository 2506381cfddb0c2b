"""Draws procedural objects by kind and seed, and writes them as a folder of BOP models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray

from crisp_ros.cluster import MapFunction
from crisp_ros.data.bop_writer import write_models
from crisp_ros.geometry.se3 import from_rotation_translation

from . import boxes, tableware, tools, vessels
from .blueprint import Blueprint
from .solids import placed, united
from .texture import Surface, textured

SMALLEST_M, LARGEST_M = 0.02, 0.35  # of an object's longest side
_SLIVER_M = 1e-6
_ATTEMPTS = 100

Generator = Callable[[np.random.Generator], Blueprint]

KINDS: dict[str, Generator] = {
    generator.__name__: generator
    for generator in (
        boxes.box,
        boxes.square_box,
        boxes.gable_carton,
        boxes.pouch,
        boxes.book,
        boxes.tray,
        boxes.tub,
        boxes.brick,
        vessels.can,
        vessels.jar,
        vessels.bottle,
        vessels.squeeze_bottle,
        vessels.spray_bottle,
        vessels.handle_bottle,
        vessels.pump_bottle,
        vessels.canister,
        vessels.tube,
        vessels.carafe,
        tableware.bowl,
        tableware.plate,
        tableware.cup,
        tableware.mug,
        tableware.pitcher,
        tableware.pan,
        tableware.stemware,
        tableware.lidded_pot,
        tools.screwdriver,
        tools.pen,
        tools.hammer,
        tools.wrench,
        tools.spatula,
        tools.dumbbell,
        tools.roll,
        tools.fruit,
        tools.banana,
        tools.toy,
        tools.car,
        tools.stacker,
    )
}


@dataclass(frozen=True)
class ProceduralShape:
    """An object that was drawn.

    Attributes:
        kind: a key of `KINDS`.
        mesh: closed once its seams are merged, textured, metres; z is up and the origin is the
            middle of its box.
        discrete_symmetries: (S, 4, 4) motions that map it onto itself, identity first; those of a
            continuous symmetry are left out.
        is_round: every rotation about z maps it onto itself.
    """

    kind: str
    mesh: trimesh.Trimesh
    discrete_symmetries: NDArray[np.float64]
    is_round: bool

    @property
    def bop_info(self) -> dict[str, Any]:
        """Its symmetries as models_info.json states them."""
        info: dict[str, Any] = {}
        if len(self.discrete_symmetries) > 1:
            motions = self.discrete_symmetries[1:].reshape(-1, 16)
            info["symmetries_discrete"] = motions.tolist()
        if self.is_round:
            info["symmetries_continuous"] = [{"axis": [0, 0, 1], "offset": [0, 0, 0]}]
        return info


def procedural_shape(kind: str, seed: int | Sequence[int]) -> ProceduralShape:
    """Draw an object of a kind.

    Args:
        kind: a key of `KINDS`.
        seed: decides everything else.

    Raises:
        KeyError: an unknown kind.
        ModuleNotFoundError: manifold3d is not installed.
    """
    return drawn_shape(KINDS[kind], seed)


def drawn_shape(
    generator: Generator,
    seed: int | Sequence[int],
    longest_m: tuple[float, float] = (SMALLEST_M, LARGEST_M),
) -> ProceduralShape:
    """Draw an object of a generator, which names its kind.

    Args:
        generator: of blueprints.
        seed: decides everything else.
        longest_m: range of its longest side, metres.

    Raises:
        RuntimeError: no object of that size and in one piece was drawn.
        ModuleNotFoundError: manifold3d is not installed.
    """
    kind = generator.__name__
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng([*np.atleast_1d(seed), attempt])
        blueprint = generator(rng)
        mesh, surfaces = _mesh(blueprint)
        longest = mesh.extents.max() if len(mesh.faces) else 0.0
        if longest_m[0] <= longest <= longest_m[1] and _is_one_body(mesh):
            rotations = blueprint.discrete_rotations
            motions = from_rotation_translation(rotations, np.zeros((len(rotations), 3)))
            look = textured(mesh, surfaces, rng)
            return ProceduralShape(kind, look, motions, blueprint.order == 0)
    raise RuntimeError(f"{kind}: no object of a right size in {_ATTEMPTS} attempts")


def procedural_shapes(
    count: int, seed: int, kinds: Sequence[str] = (), mapped: MapFunction = map
) -> Iterator[ProceduralShape]:
    """Draw objects, kind after kind; an object depends on seed, kind and its number alone.

    Args:
        count: of the objects.
        seed: of all of them.
        kinds: keys of `KINDS`; none takes all.
        mapped: draws them; see `crisp_ros.cluster.mapping`.
    """
    names = list(kinds) or list(KINDS)
    wanted = [names[number % len(names)] for number in range(count)]
    return iter(mapped(partial(_numbered, seed), range(count), wanted))


def write_procedural_models(
    folder: Path,
    shapes: Iterator[ProceduralShape],
    on_shape: Callable[[int], None] = lambda done: None,
) -> int:
    """Write objects as `models/` of a data set folder, named by kind and number.

    Returns:
        How many there are.
    """
    meshes: dict[int, trimesh.Trimesh] = {}
    info: dict[int, dict[str, Any]] = {}
    for number, shape in enumerate(shapes, start=1):
        meshes[number] = shape.mesh
        info[number] = {"name": f"{shape.kind}_{number:04d}", **shape.bop_info}
        on_shape(number)
    write_models(folder, meshes, info)
    return len(meshes)


def _numbered(seed: int, number: int, kind: str) -> ProceduralShape:
    return procedural_shape(kind, [seed, list(KINDS).index(kind), number])


def _is_one_body(mesh: trimesh.Trimesh) -> bool:
    """Whether a mesh is closed and in one piece once coinciding corners are welded.

    Solids that touch in a ring, rather than overlap, are pinched there.
    """
    welded = mesh.copy()
    welded.merge_vertices()
    return bool(welded.is_watertight) and welded.body_count == 1


def _mesh(blueprint: Blueprint) -> tuple[trimesh.Trimesh, list[Surface]]:
    """The closed mesh of a blueprint about the middle of its box, and its surfaces."""
    solids = [part.solid.as_original() for part in blueprint.parts]
    finishes = [(part.finish, part.wrap) for part in blueprint.parts]
    whole = united(solids)
    if blueprint.cavity is not None:
        solids.append(blueprint.cavity.as_original())
        finishes.append((blueprint.inside, "cylinder"))
        whole = whole - solids[-1]
    whole = whole.simplify(_SLIVER_M)  # cuts leave corners that merge when vertices are welded
    lower, upper = np.reshape(whole.bounding_box(), (2, 3))
    drawn = placed(whole, -(lower + upper) / 2.0).to_mesh64()
    vertices, faces = np.array(drawn.vert_properties)[:, :3], np.array(drawn.tri_verts)
    mesh = trimesh.Trimesh(vertices, faces.astype(np.int64), process=False)
    runs = np.array(drawn.run_index) // 3
    owner = np.repeat(np.array(drawn.run_original_id), np.diff(runs))
    surfaces = [
        Surface(np.flatnonzero(owner == solid.original_id()), *finish)
        for solid, finish in zip(solids, finishes, strict=True)
    ]
    return mesh, surfaces
