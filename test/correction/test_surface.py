"""Points on decoded surfaces against the closed-form shapes."""

import torch

from crisp_ros.correction.surface import library_surfaces, surface_points


def test_points_lie_on_the_closed_form_shapes_all_over(known) -> None:
    found = library_surfaces(known.decoder, known.library, 400)
    assert found.valid.float().mean(1).min() > 0.9
    for k, shape in enumerate(known.shapes):
        points = found.points[k][found.valid[k]].double()
        distance = shape.sdf(points).abs()
        assert distance.median() < 0.002
        surface = shape.surface(500, torch.Generator().manual_seed(1))
        gaps = torch.cdist(surface, points).amin(-1)
        assert gaps.quantile(0.95) < 0.25 * known.library.diameters[k]
        assert gaps.mean() < 0.015


def test_the_same_each_time_and_alone(known) -> None:
    library = known.library
    together = library_surfaces(known.decoder, library, 100)
    alone = surface_points(
        known.decoder, library.codes[2:3], library.lower[2:3], library.upper[2:3], 100
    )
    torch.testing.assert_close(together.points[2], alone.points[0], atol=1e-4, rtol=0)


def test_a_box_without_a_surface_gives_no_valid_points(known) -> None:
    far = torch.tensor([[0.0, 0.0, 0.2]])
    found = surface_points(known.decoder, known.codes("sphere"), far, far + 0.01, 50)
    assert not found.valid.any()
