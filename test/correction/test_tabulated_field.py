"""The tabulated field: tables for library shapes, the decoder for all others, bounded memory."""

import logging
import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from counting import CountedOperations
from known import Known, load_known
from observed import Noise, observe
from roma import rotmat_geodesic_distance
from torch import Tensor

from crisp_ros.correction import shape_table, tabulated_field
from crisp_ros.correction.correspondences import Shapes
from crisp_ros.correction.packed_tables import packed_bytes
from crisp_ros.correction.pose_lm import refine_pose
from crisp_ros.correction.shape_field import captured_sdf
from crisp_ros.correction.shape_table import tabulate
from crisp_ros.correction.table_cache import TableCache
from crisp_ros.correction.tabulated_field import TabulatedField
from crisp_ros.geometry.fixed_shapes import force_fixed_shapes
from crisp_ros.geometry.se3 import invert

ACCURATE = {"rtol": 0.0, "atol": 2e-4}


class CountingDecoder:
    """A decoder that counts the points that it is asked for."""

    def __init__(self, known: Known) -> None:
        self._decoder, self.points = known.decoder, 0

    def __getattr__(self, name: str):
        return getattr(self._decoder, name)

    def sdf(self, points: Tensor, codes: Tensor) -> Tensor:
        batch = torch.broadcast_shapes(points.shape[:-2], codes.shape[:-1])
        self.points += batch.numel() * points.shape[-2]
        return self._decoder.sdf(points, codes)

    def sdf_and_gradient(self, points: Tensor, codes: Tensor):
        self.sdf(points, codes)
        return self._decoder.sdf_and_gradient(points, codes)


@pytest.fixture(scope="module")
def cache(known: Known, tmp_path_factory) -> TableCache:
    """The tables of all test shapes, made once for all fields here, in whatever order they run."""
    made = TableCache(tmp_path_factory.mktemp("tables"))
    TabulatedField(known.decoder, known.library, made).prepare()
    return made


@pytest.fixture(scope="module")
def field(known: Known, cache: TableCache) -> TabulatedField:
    made = TabulatedField(known.decoder, known.library, cache)
    made.prepare()
    return made


def counting(known: Known, cache: TableCache | None, **limits: int) -> TabulatedField:
    return TabulatedField(CountingDecoder(known), known.library, cache, **limits)


def near(known: Known, names: tuple[str, ...], count: int = 40) -> Tensor:
    """Points (B, count, 3) near the surfaces of shapes."""
    generator = torch.Generator().manual_seed(0)
    on = torch.stack([shape.surface(count, generator) for shape in known.named(*names)])
    return on.float() + 0.003 * torch.randn(on.shape, generator=generator)


def blends(known: Known) -> Shapes:
    """Two shapes between those of the library."""
    return Shapes.of_codes((known.codes("box", "mug") + known.codes("bar", "cup")) / 2)


def test_library_shapes_do_not_need_the_decoder(known: Known, cache, field) -> None:
    names = ("mug", "box", "mug")
    points, shapes = near(known, names), known.shapes_of(*names)
    exact = known.decoder.sdf_and_gradient(points, shapes.codes)
    counted = counting(known, cache)
    for found in (field, counted):
        torch.testing.assert_close(found.sdf(points, shapes), exact.sdf, **ACCURATE)
        slopes = found.sdf_and_gradient(points, shapes)
        torch.testing.assert_close(slopes.sdf, exact.sdf, **ACCURATE)
        torch.testing.assert_close(slopes.gradient, exact.gradient, rtol=0, atol=0.03)
    assert counted.decoder.points == 0


def test_other_shapes_are_decoded(known: Known, field) -> None:
    points, shapes = near(known, ("box", "mug")), blends(known)
    exact = known.decoder.sdf_and_gradient(points, shapes.codes)
    torch.testing.assert_close(field.sdf(points, shapes), exact.sdf)
    torch.testing.assert_close(field.sdf_and_gradient(points, shapes).gradient, exact.gradient)


@pytest.mark.parametrize("one", [False, True])
def test_both_in_one_batch(known: Known, cache, one: bool) -> None:
    """Each row by its own means, with points for each shape or one set for all."""
    field, library = counting(known, cache), known.shapes_of("cup", "box", "mug")
    mixed = Shapes(*(torch.cat(parts) for parts in zip(library, blends(known), strict=True)))
    mixed = mixed.rows(torch.tensor([0, 3, 1, 4, 2])).unsqueeze(0)
    points = near(known, ("cup", "box", "box", "mug", "mug"))[None]
    points = points[:, 1:2] if one else points
    exact = known.decoder.sdf_and_gradient(points, mixed.codes)
    found = field.sdf_and_gradient(points, mixed)
    assert found.sdf.shape == (1, 5, 40)
    torch.testing.assert_close(found.sdf, exact.sdf, **ACCURATE)
    torch.testing.assert_close(found.gradient, exact.gradient, rtol=0, atol=0.05)
    torch.testing.assert_close(found.sdf[:, 1::2], exact.sdf[:, 1::2], rtol=0, atol=1e-6)
    torch.testing.assert_close(field.sdf(points, mixed), found.sdf, rtol=0, atol=1e-6)
    assert field.decoder.points == 2 * 2 * 40


def test_a_single_shape_without_leading_dimensions(known: Known, field) -> None:
    (points,) = near(known, ("cylinder",))
    for shapes in (known.shapes_of("cylinder").rows(slice(None)), blends(known)):
        shape = Shapes(*(part[0] for part in shapes))
        exact = known.decoder.sdf(points, shape.codes)
        torch.testing.assert_close(field.sdf(points, shape), exact, **ACCURATE)


def test_no_waiting_for_a_gpu_with_any_shapes(known: Known, field) -> None:
    """With library shapes and others in one batch, whose number the host does not know."""
    mixed = Shapes(*map(torch.cat, zip(known.shapes_of("mug", "box"), blends(known), strict=True)))
    points = near(known, ("mug",)).expand(len(mixed.index), -1, -1)
    expected = field.sdf_and_gradient(points, mixed)
    with force_fixed_shapes(), CountedOperations() as counted:
        found = field.sdf_and_gradient(points, mixed)
        sdf = captured_sdf(field, points, mixed)
    assert not counted.waits and counted.captured > 0
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    assert torch.equal(sdf, found.sdf)


def test_no_waiting_for_a_gpu_with_library_shapes(known: Known, field) -> None:
    points, shapes = near(known, ("mug", "box")), known.shapes_of("mug", "box")
    alone = field.for_library()
    assert alone.decoder is field.decoder
    assert alone.for_library() is alone
    with CountedOperations() as counted:
        sdf = alone.sdf(points, shapes)
        slopes = alone.sdf_and_gradient(points, shapes)
    assert not counted.waits
    torch.testing.assert_close(sdf, field.sdf(points, shapes), rtol=0, atol=0)
    torch.testing.assert_close(slopes.sdf, sdf, rtol=0, atol=0)


def test_progress_and_a_second_start_from_the_cache(known: Known, tmp_path: Path) -> None:
    cache, calls = TableCache(tmp_path), []
    small = known.only("box", "sphere")
    first = counting(small, cache)
    first.prepare(lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]
    assert first.decoder.points > 10_000
    again = counting(small, cache)
    again.prepare()
    assert again.decoder.points == 0
    points, shapes = near(small, ("box",)), small.shapes_of("box")
    torch.testing.assert_close(again.sdf(points, shapes), first.sdf(points, shapes))


def prepared_elsewhere(folder: Path) -> None:
    """Prepare a field, as another process that starts at the same time."""
    known = load_known().only("box", "sphere", "mug")
    TabulatedField(known.decoder, known.library, TableCache(folder)).prepare()


def test_processes_that_start_at_once(known: Known, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=prepared_elsewhere, args=(tmp_path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(list(tmp_path.iterdir())) == 3
    field = counting(known.only("box", "sphere", "mug"), TableCache(tmp_path))
    field.prepare()
    assert field.decoder.points == 0


def test_a_large_library_is_tabulated_as_it_is_used(known, cache, monkeypatch) -> None:
    """A shape at a time, when its points have cost as much as a table."""
    monkeypatch.setattr(tabulated_field, "PREPARED_SHAPES", 4)
    monkeypatch.setattr(tabulated_field, "_WORTH_POINTS", 100)
    field = counting(known, cache)
    field.prepare()
    assert field.for_library() is field
    points, shapes = near(known, ("mug", "box")), known.shapes_of("mug", "box")
    exact = known.decoder.sdf(points, shapes.codes)
    counts = []
    for _ in range(7):
        torch.testing.assert_close(field.sdf(points, shapes), exact, **ACCURATE)
        counts.append(field.decoder.points)
    # 40 points of each shape; in the third evaluation one gets its table. The other is due too, but
    # waits until 100 more points were decoded, so that no frame is held up by several tables.
    assert counts == [80, 160, 200, 240, 280, 280, 280]
    # All shapes are tried at points of one; the others are decoded until they are worth a table.
    every = known.prepared.all_shapes.unsqueeze(0)
    found = field.sdf(points[:1, None], every)
    exact = known.decoder.sdf(points[:1, None], every.codes)
    assert field.decoder.points == 280 + 6 * 40
    close = exact.abs() < 0.02
    torch.testing.assert_close(found[close], exact[close], **ACCURATE)
    for _ in range(12):
        field.sdf(points[:1, None], every)
    assert field.for_library() is not field


def test_memory_is_bounded(known: Known, cache, monkeypatch) -> None:
    """The least recently used tables are dropped, and loaded again when they are needed."""
    monkeypatch.setattr(tabulated_field, "PREPARED_SHAPES", 0)
    monkeypatch.setattr(tabulated_field, "_WORTH_POINTS", 1)
    library = known.library
    names = ("box", "sphere", "capsule")
    rows = [library.names.index(name) for name in names]
    parts = zip(library.codes[rows], library.lower[rows], library.upper[rows], strict=True)
    limit = sum(packed_bytes(tabulate(known.decoder, *shape)) for shape in parts) - 1
    field = counting(known, cache, largest_bytes=limit)

    def is_tabulated(name: str) -> bool:
        before = field.decoder.points
        field.sdf(near(known, (name,)), known.shapes_of(name))
        return field.decoder.points == before

    assert is_tabulated("box") and is_tabulated("sphere") and is_tabulated("box")
    assert is_tabulated("capsule")  # drops the sphere
    assert {library.names[k] for k in field._kept} == {"box", "capsule"}
    assert field._tables.packed.rows.nbytes + field._tables.packed.leaves.nbytes <= limit
    assert is_tabulated("sphere")
    whole = counting(known, cache)
    monkeypatch.setattr(tabulated_field, "PREPARED_SHAPES", 64)
    whole.prepare()
    assert not whole._kept  # nothing is kept twice
    tiny = counting(known, cache, largest_bytes=1000)
    for _ in range(2):
        tiny.sdf(near(known, ("box",)), known.shapes_of("box"))
    assert tiny.decoder.points == 2 * 40


def test_a_shape_that_tables_do_not_describe(known, monkeypatch, tmp_path, caplog) -> None:
    """The decoder answers for it; that is reported once and remembered on disk."""
    monkeypatch.setattr(tabulated_field, "ACCURACY_M", 1e-6)
    small, cache = known.only("box"), TableCache(tmp_path)
    for start in range(2):
        caplog.clear()
        field = counting(small, cache)
        with caplog.at_level(logging.WARNING):
            field.prepare()
        made = field.decoder.points
        assert (made > 0, "box" in caplog.text) == (start == 0, start == 0)
        points, shapes = near(small, ("box",)), small.shapes_of("box")
        exact = known.decoder.sdf(points, shapes.codes)
        torch.testing.assert_close(field.sdf(points, shapes), exact)
        field.sdf(points, shapes)
        assert field.decoder.points == made + 2 * 40


def test_a_shape_with_too_many_leaves(known: Known, monkeypatch) -> None:
    monkeypatch.setattr(shape_table, "_MOST_LEAVES", 10)
    small = known.only("mug")
    field = TabulatedField(known.decoder, small.library)
    points, shapes = near(small, ("mug",)), small.shapes_of("mug")
    torch.testing.assert_close(field.sdf(points, shapes), known.decoder.sdf(points, shapes.codes))


def test_other_weights_are_other_tables(known: Known, tmp_path: Path) -> None:
    """A cache that a model with the same codes filled is not used for another decoder."""
    cache, small = TableCache(tmp_path), known.only("sphere")
    TabulatedField(known.decoder, small.library, cache).prepare()
    other = load_known().decoder
    with torch.no_grad():
        other.final_layer.bias += 0.01
    field = TabulatedField(other, small.library, cache)
    points, shapes = near(small, ("sphere",)), small.shapes_of("sphere")
    torch.testing.assert_close(
        field.sdf(points, shapes), other.sdf(points, shapes.codes), **ACCURATE
    )


def test_a_library_of_one_shape_more(known: Known, cache) -> None:
    """Only the new shape is tabulated."""
    grown = replace(
        known,
        library=known.library.with_shape(
            "between", blends(known).codes[0], *known.library.lower[:1], *known.library.upper[:1]
        ),
    )
    before = counting(known, cache)
    before.prepare()
    field = counting(grown, cache)
    field.prepare()
    assert before.decoder.points == 0
    assert 0 < field.decoder.points < 500_000


def test_poses_are_those_with_the_decoder(known: Known, field) -> None:
    """Refined from some centimetres and degrees off, with noise and outliers.

    Rotations about the axis of a symmetric shape, as a mug whose handle is hidden, are left out:
    there is next to no slope that would determine them.
    """
    names = ("box", "bracket", "bar", "mug", "cup")
    for seed in range(8):
        noise = Noise(0.001, 0.05, 0.003, 0.1, rotation=0.2, along_ray=0.02)
        seen = observe(known.named(*names), noise, seed=seed)
        start = seen.register().T_object_camera
        observed, shapes = seen.correspondences(), known.shapes_of(*names)
        expected, *found = (
            refine_pose(used, observed, shapes, start)
            for used in (known.field, field, field.for_library())
        )
        assert (expected.objective < 0.8 * expected.start_objective).any()
        T = invert(expected.T_object_camera)
        for step in found:
            moved = invert(step.T_object_camera)[:, :3, 3] - T[:, :3, 3]
            assert moved.norm(dim=-1).max() < 1e-4
            relative = step.T_object_camera[:, :3, :3] @ T[:, :3, :3]
            angle = rotmat_geodesic_distance(relative, torch.eye(3)).rad2deg()
            assert angle[:3].max() < 0.1
            torch.testing.assert_close(step.objective, expected.objective, rtol=0.02, atol=1e-8)
