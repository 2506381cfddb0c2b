"""Shape libraries from meshes: names, versions, and shapes that cannot be certified."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import trimesh

from crisp_ros.training.library_builder import (
    FittedShape,
    LibraryError,
    MeshShape,
    bop_shapes,
    check_fits,
    folder_shapes,
    next_version,
)
from crisp_ros.training.library_quality import BoxedShape, FitError


@pytest.mark.parametrize(
    "version, part, following",
    [
        ("1.2.3", "minor", "1.3.0"),
        ("1.2.3", "major", "2.0.0"),
        ("", "minor", "0.1.0"),
        ("mine", "minor", "mine+1"),
        ("mine+9", "major", "mine+10"),
    ],
)
def test_versions_are_incremented(version: str, part: str, following: str) -> None:
    assert next_version(version, part) == following


def fitted(name: str, error: FitError) -> FittedShape:
    """A shape with a box of 6, 8 and 24 cm and this error."""
    mesh = SimpleNamespace(shift=torch.zeros(3), notes=("repaired",))
    corner = torch.tensor([0.03, 0.04, 0.12])
    source = MeshShape(name, mesh, f"{name}.ply", torch.eye(4)[None])
    return FittedShape(source, BoxedShape(torch.zeros(4), -corner, corner), error)


def test_shapes_beyond_the_certificate_are_named() -> None:
    good = fitted("ball", FitError(0.001, 0.002, 0.003, 0.002))
    check_fits([good])
    far = fitted("far", FitError(0.001, 0.002, 0.02, 0.002))
    empty = fitted("empty", FitError(0.001, 0.002, 0.003, float("inf")))
    with pytest.raises(LibraryError, match="cannot express far, empty: .* 10 mm"):
        check_fits([good, far, empty])
    assert empty.to_json()["chamfer_m"] is None
    assert good.to_json()["diameter_m"] == pytest.approx(0.26)
    assert good.to_json()["mesh"] == "ball.ply" and good.to_json()["notes"] == ["repaired"]


def test_meshes_of_a_folder_and_of_a_data_set_become_shapes(tmp_path) -> None:
    from tiny_bop import write_tiny_bop

    trimesh.creation.box((0.08, 0.05, 0.11)).export(tmp_path / "block.obj")
    (block,) = folder_shapes(tmp_path)
    assert block.name == block.source == "block" and len(block.symmetries) == 1
    shapes = bop_shapes(write_tiny_bop(tmp_path / "set"))
    assert [shape.name for shape in shapes] == ["box", "can", "ball"]
    assert [len(shape.symmetries) for shape in shapes] == [2, 72, 1]
