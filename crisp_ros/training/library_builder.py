"""Shape libraries from meshes: an additional shape, a new library, or colours of the surfaces."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.certificate import CertificateSettings
from crisp_ros.data.bop import BopDataset, read_models
from crisp_ros.data.meshes import mesh_files
from crisp_ros.data.object_mesh import ObjectMesh, read_object_mesh
from crisp_ros.network.checkpoint import Model
from crisp_ros.network.library import ShapeLibrary
from crisp_ros.training.library_quality import BoxedShape, FitError, fit_error
from crisp_ros.training.mesh_codes import fit_mesh_code
from crisp_ros.training.network_codes import mean_network_codes
from crisp_ros.training.shape_codes import neutral_codes
from crisp_ros.training.surface_colors import mesh_surface_colors

_SYMMETRY_STEPS = 36  # per revolution

OnProgress = Callable[[int, int], None]


class LibraryError(ValueError):
    """A library with broken shapes, or a shape that its decoder cannot represent."""


class MeshShape(NamedTuple):
    """A mesh that becomes a shape of a library.

    Attributes:
        name: of the shape.
        mesh: in the object frame.
        source: name of its file.
        symmetries: (S, 4, 4) motions that map it onto itself.
    """

    name: str
    mesh: ObjectMesh
    source: str
    symmetries: Tensor


class FittedShape(NamedTuple):
    """A shape of a library with the error of its code.

    Attributes:
        source: the mesh.
        shape: code and box of the decoded surface.
        error: of the decoded surface against the mesh.
    """

    source: MeshShape
    shape: BoxedShape
    error: FitError

    def to_json(self) -> dict[str, Any]:
        """The entry of the shape in header and report."""
        chamfer = self.error.chamfer_m
        return {
            "name": self.source.name,
            "mesh": self.source.source,
            "mesh_origin_in_object_frame_m": self.source.mesh.shift.tolist(),
            "diameter_m": float(torch.linalg.norm(self.shape.upper - self.shape.lower)),
            "notes": list(self.source.mesh.notes),
            **self.error._asdict(),
            "chamfer_m": chamfer if chamfer < float("inf") else None,
        }


def mesh_shape(
    path: Path,
    name: str,
    units: str | None = None,
    scale: float = 1.0,
    origin: Literal["box", "mesh"] = "mesh",
) -> MeshShape:
    """Read the mesh of a shape, which is wrapped where it is open; see `read_object_mesh`."""
    mesh = read_object_mesh(path, units, scale, origin, wrap=True)
    return MeshShape(name, mesh, path.name, torch.eye(4)[None])


def folder_shapes(folder: Path, units: str | None = None) -> list[MeshShape]:
    """Read the meshes of a folder, one per shape, in their own frames."""
    shapes = (mesh_shape(path, name, units) for name, path in mesh_files(folder).items())
    return [shape._replace(source=shape.name) for shape in shapes]


def bop_shapes(folder: Path, units: str | None = None) -> list[MeshShape]:
    """Read the models of a data set in the BOP layout, with their symmetries."""
    return [
        MeshShape(
            model.name,
            read_object_mesh(model.path, units or "mm", origin="mesh"),
            model.path.name,
            torch.from_numpy(model.symmetries(_SYMMETRY_STEPS)).float(),
        )
        for model in read_models(folder / "models").values()
    ]


@dataclass(frozen=True)
class LibraryBuilder:
    """Changes the shape library of a model; network and decoder stay as they are.

    Attributes:
        model: the original one.
        seed: of all random choices.
    """

    model: Model
    seed: int = 0

    def fitted(self, shapes: Sequence[MeshShape], on_shape: OnProgress) -> list[FittedShape]:
        """Fit a code to each mesh."""
        decoder, library = self.model.network.decoder, self.model.library
        known = library.codes if library else neutral_codes(decoder, 4, 0.02, self.seed)
        codes = []
        for shape in shapes:
            codes.append(fit_mesh_code(decoder, known, shape.mesh.mesh, seed=self.seed).code)
            on_shape(len(codes), len(shapes))
        return self._measured(shapes, codes)

    def of_network(
        self, shapes: Sequence[MeshShape], dataset: BopDataset, on_frame: OnProgress
    ) -> list[FittedShape]:
        """Take the mean of the network's codes over each object's crops, as in the paper.

        Raises:
            LibraryError: no image shows enough of an object.
        """
        means = mean_network_codes(self.model.network, dataset, on_frame=on_frame)
        codes = {dataset.models[obj_id].name: code for obj_id, code in means.items()}
        missing = [shape.name for shape in shapes if shape.name not in codes]
        if missing:
            raise LibraryError(f"no image of {dataset.split} shows enough of {', '.join(missing)}")
        return self._measured(shapes, [codes[shape.name] for shape in shapes])

    def with_shape(self, shape: MeshShape, on_step: OnProgress) -> tuple[Model, FittedShape]:
        """Add a shape to the library, with a code that is fitted to its mesh.

        Raises:
            LibraryError: the library has a shape of this name.
        """
        library, decoder = self.model.library, self.model.network.decoder
        if shape.name in library.names:
            raise LibraryError(
                f"the library has a shape named {shape.name!r} already: choose another name"
            )
        code = fit_mesh_code(
            decoder, library.codes, shape.mesh.mesh, seed=self.seed, on_step=on_step
        ).code
        (fitted,) = self._measured([shape], [code])
        colors = mesh_surface_colors(shape.mesh.look, self.seed)
        extended = library.with_shape(
            shape.name, *fitted.shape, shape.symmetries, colors, trained=False
        )
        header = {
            **self._header("self_training"),
            "version": self._next_version("minor"),
            "added_shapes": [*self.model.header.get("added_shapes", []), fitted.to_json()],
        }
        return replace(self.model, library=extended, header=header), fitted

    def with_shapes(self, fitted: Sequence[FittedShape], codes: str) -> Model:
        """Replace the library.

        Args:
            fitted: all shapes.
            codes: their origin, for the header.
        """
        library = ShapeLibrary(
            tuple(f.source.name for f in fitted),
            torch.stack([f.shape.code for f in fitted]),
            torch.stack([f.shape.lower for f in fitted]),
            torch.stack([f.shape.upper for f in fitted]),
            tuple(f.source.symmetries for f in fitted),
            tuple(mesh_surface_colors(f.source.mesh.look, self.seed) for f in fitted),
        )
        header = {
            **self._header("self_training", "added_shapes"),
            "version": self._next_version("major"),
            "library_codes": codes,
            "library_shapes": [f.to_json() for f in fitted],
        }
        return replace(self.model, library=library, header=header)

    def with_colors(self, shapes: Sequence[MeshShape]) -> tuple[Model, list[str]]:
        """Give the shapes the colours of the meshes of the same name.

        Returns:
            The model, and the names of the shapes with new colours.

        Raises:
            LibraryError: no mesh has colours and the name of a shape.
        """
        library = self.model.library
        found = {
            shape.name: mesh_surface_colors(shape.mesh.look, self.seed)
            for shape in shapes
            if shape.name in library.names
        }
        colors = {name: part for name, part in found.items() if part is not None}
        if not colors:
            names = ", ".join(library.names)
            raise LibraryError(f"no mesh has colours and the name of a shape: {names}")
        header = {**self.model.header, "version": self._next_version("minor")}
        colored = replace(self.model, library=library.with_colors(colors), header=header)
        return colored, list(colors)

    def _measured(self, shapes: Sequence[MeshShape], codes: Sequence[Tensor]) -> list[FittedShape]:
        decoder, quantile = self.model.network.decoder, CertificateSettings().quantile
        fitted = []
        for source, code in zip(shapes, codes, strict=True):
            shape = BoxedShape.of_code(decoder, code)
            error = fit_error(decoder, shape, source.mesh.mesh, quantile, self.seed)
            fitted.append(FittedShape(source, shape, error))
        return fitted

    def _header(self, *without: str) -> dict[str, Any]:
        """The header without the entries that no longer apply to other shapes."""
        return {key: value for key, value in self.model.header.items() if key not in without}

    def _next_version(self, part: Literal["major", "minor"]) -> str:
        return next_version(str(self.model.header.get("version", "")), part)


def check_fits(fitted: Sequence[FittedShape]) -> None:
    """Check that estimates of the shapes can be certified.

    Raises:
        LibraryError: a decoded surface is off by more than the certificate's threshold.
    """
    limit = CertificateSettings().threshold_m
    refused = [
        f.source.name for f in fitted if not max(f.error.quantile_m, f.error.chamfer_m) <= limit
    ]
    if refused:
        raise LibraryError(
            f"the decoder cannot express {', '.join(refused)}: off by more than the certificate's "
            f"{1e3 * limit:g} mm, so that no estimate would be certified (--force takes them)"
        )


def next_version(version: str, part: Literal["major", "minor"]) -> str:
    """Increment a version X.Y.Z: minor for an additional shape, major for replaced shapes.

    Any other text gets "+1" at its end, or its number there is incremented; "" becomes 0.1.0.
    """
    numbers = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", version)
    if numbers:
        major, minor = int(numbers[1]), int(numbers[2])
        return f"{major + 1}.0.0" if part == "major" else f"{major}.{minor + 1}.0"
    if not version:
        return "0.1.0"
    text, _, count = version.rpartition("+")
    return f"{text}+{int(count) + 1}" if text and count.isdecimal() else f"{version}+1"
