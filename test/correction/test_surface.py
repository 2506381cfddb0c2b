"""Points on decoded surfaces against the closed-form shapes."""

import torch

from crisp_ros.correction.surface import SurfacePoints, surface_points


def test_points_cover_the_closed_form_shapes(known) -> None:
    found = surface_points(known.field, known.prepared.all_shapes, 400)
    assert found.valid.float().mean(1).min() > 0.9
    for k, shape in enumerate(known.shapes):
        points = found.points[k][found.valid[k]].double()
        distance = shape.sdf(points).abs()
        assert distance.median() < 0.002
        surface = shape.surface(500, torch.Generator().manual_seed(1))
        gaps = torch.cdist(surface, points).amin(-1)
        assert gaps.quantile(0.95) < 0.25 * known.library.diameters[k]
        assert gaps.mean() < 0.015


def test_a_batch_equals_its_members(known) -> None:
    shapes = known.prepared.all_shapes
    together = surface_points(known.field, shapes, 100)
    alone = surface_points(known.field, shapes.rows(slice(2, 3)), 100)
    torch.testing.assert_close(together.points[2], alone.points[0], atol=1e-4, rtol=0)


def test_a_box_without_a_surface_gives_no_valid_points(known) -> None:
    far = torch.tensor([[0.0, 0.0, 0.2]])
    elsewhere = known.shapes_of("sphere")._replace(lower=far, upper=far + 0.01)
    assert not surface_points(known.field, elsewhere, 50).valid.any()


def test_a_subsample_takes_valid_points_only() -> None:
    points = torch.arange(8.0).view(1, 8, 1).expand(1, 8, 3)
    valid = torch.tensor([[False, True] * 4])
    few = SurfacePoints(points, valid).subsample(2)
    assert few.points[0, :, 0].tolist() == [1.0, 5.0] and few.valid.all()
