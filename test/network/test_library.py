"""The shape library: its checks, and boxes of decoded shapes against analytic ones."""

import dataclasses
from collections.abc import Sequence

import pytest
import torch
from analytic import AnalyticShape, box, capsule, cylinder, mug, sphere
from torch import Tensor

from crisp_ros.network.decoder import ShapeDecoder, SignedDistance
from crisp_ros.network.library import ShapeLibrary, SurfaceColors, shape_boxes


class _ExactDecoder(ShapeDecoder):
    """Decodes a code of one number to the analytic shape with that number."""

    def __init__(self, shapes: Sequence[AnalyticShape]) -> None:
        super().__init__(hidden=1, layers=1)
        self.shapes = shapes

    def sdf(self, points: Tensor, codes: Tensor) -> Tensor:
        return self.shapes[int(codes[0])].sdf(points)

    def sdf_and_gradient(self, points: Tensor, codes: Tensor) -> SignedDistance:
        points = points.detach().requires_grad_(True)
        sdf = self.sdf(points, codes)
        return SignedDistance(sdf.detach(), torch.autograd.grad(sdf.sum(), points)[0])


def _boxes(*shapes: AnalyticShape):
    return shape_boxes(_ExactDecoder(shapes), torch.arange(float(len(shapes)))[:, None])


def test_boxes_of_analytic_shapes() -> None:
    shapes = (
        sphere(0.015),
        box((0.04, 0.025, 0.055)),
        cylinder(0.033, 0.05),
        capsule(0.022, 0.12),
        mug(0.04, 0.045, 0.005, 0.03),
        box((0.35, 0.2, 0.3)),
    )
    boxes = _boxes(*shapes)
    assert boxes.closed.all()
    for k, shape in enumerate(shapes):
        size = max(shape.upper)
        torch.testing.assert_close(
            boxes.lower[k], torch.tensor(shape.lower), rtol=0, atol=0.01 * size
        )
        torch.testing.assert_close(
            boxes.upper[k], torch.tensor(shape.upper), rtol=0, atol=0.01 * size
        )


def test_surfaces_apart_from_the_shape_do_not_count() -> None:
    def distance(points: Tensor) -> Tensor:
        crumb = (points - torch.tensor([0.07, 0.07, 0.0])).norm(dim=-1) - 0.015
        moon = (points - torch.tensor([0.5, 0.0, 0.0])).norm(dim=-1) - 0.2
        return torch.minimum(points.norm(dim=-1) - 0.04, torch.minimum(crumb, moon))

    boxes = _boxes(AnalyticShape("crowded", distance, (0, 0, 0), (0, 0, 0)))
    torch.testing.assert_close(boxes.upper, torch.full((1, 3), 0.04), rtol=0, atol=5e-4)
    assert boxes.closed.all()


def test_open_and_empty_shapes_are_flagged() -> None:
    half_space = AnalyticShape("floor", lambda p: p[..., 2], (0, 0, 0), (0, 0, 0))
    nothing = AnalyticShape("nothing", lambda p: 9 + 0 * p.sum(-1), (0, 0, 0), (0, 0, 0))
    boxes = _boxes(half_space, sphere(0.03), nothing)
    assert boxes.closed.tolist() == [False, True, False]
    assert (boxes.lower < boxes.upper).all()


def test_progress_is_reported() -> None:
    progress = []
    decoder = _ExactDecoder((sphere(0.05),))
    shape_boxes(decoder, torch.zeros(2, 1), lambda done, total: progress.append((done, total)))
    assert progress == [(1, 2), (2, 2)]


def _parts() -> dict:
    return {
        "names": ("a", "b"),
        "codes": torch.zeros(2, 5),
        "lower": torch.tensor([[-1.0, -2.0, -3.0], [0.0, 0.0, 0.0]]),
        "upper": torch.tensor([[1.0, 2.0, 3.0], [2.0, 3.0, 6.0]]),
    }


def test_diameters_are_the_boxes_diagonals() -> None:
    library = ShapeLibrary(**_parts())
    torch.testing.assert_close(library.diameters, torch.tensor([56**0.5, 7.0]))
    assert len(library) == 2


def test_without_symmetries_there_is_the_identity() -> None:
    library = ShapeLibrary(**_parts()).to("cpu")
    assert [group.tolist() for group in library.symmetries] == [[torch.eye(4).tolist()]] * 2


@pytest.mark.parametrize(
    "change, message",
    [
        ({"names": ("a", "a")}, "distinct names"),
        ({"names": (), "codes": torch.zeros(0, 5)}, "distinct names"),
        ({"codes": torch.zeros(3, 5)}, r"codes have shape \(3, 5\)"),
        ({"lower": torch.zeros(2, 2)}, r"lower has shape \(2, 2\)"),
        ({"upper": torch.zeros(3)}, r"upper has shape \(3,\)"),
        ({"upper": torch.zeros(2, 3)}, "lower < upper"),
        ({"codes": torch.full((2, 5), float("nan"))}, "finite codes"),
        ({"symmetries": (torch.eye(4)[None],)}, "expected 2"),
        ({"symmetries": (torch.eye(4)[None], torch.eye(4))}, "expected 2"),
        ({"symmetries": (torch.eye(4)[None], torch.zeros(0, 4, 4))}, "S >= 1"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShapeLibrary(**{**_parts(), **change})


def test_a_subset_has_the_shapes_named_in_that_order() -> None:
    library = ShapeLibrary(**_parts()).with_shape(
        "c", torch.ones(5), torch.zeros(3), torch.ones(3), torch.eye(4).repeat(3, 1, 1)
    )
    chosen = library.subset(["c", library.names[0]])
    assert chosen.names == ("c", library.names[0])
    assert torch.equal(chosen.codes, library.codes[[2, 0]])
    assert torch.equal(chosen.upper, library.upper[[2, 0]])
    assert [len(group) for group in chosen.symmetries] == [3, len(library.symmetries[0])]
    with pytest.raises(ValueError, match="no x"):
        library.subset(["x"])


def colors_of(count: int = 5) -> SurfaceColors:
    return SurfaceColors(torch.rand(count, 3), torch.zeros(count, 3, dtype=torch.uint8))


def test_colours_follow_their_shapes() -> None:
    library = ShapeLibrary(("a", "b"), torch.eye(2), torch.zeros(2, 3), torch.ones(2, 3))
    assert library.colors == (None, None)
    painted = library.with_colors({"b": colors_of()})
    assert painted.colors[0] is None and len(painted.colors[1].points) == 5
    new = torch.ones(2), torch.zeros(3), torch.ones(3), None, colors_of(7)
    added = painted.with_shape("c", *new)
    assert [part and len(part.points) for part in added.colors] == [None, 5, 7]
    assert [part and len(part.rgb) for part in added.to("cpu").colors] == [None, 5, 7]


def test_colours_that_do_not_fit_are_refused() -> None:
    library = ShapeLibrary(("a", "b"), torch.eye(2), torch.zeros(2, 3), torch.ones(2, 3))
    with pytest.raises(ValueError, match="has no c"):
        library.with_colors({"c": colors_of()})
    points, rgb = colors_of()
    for wrong in (SurfaceColors(points[:4], rgb), SurfaceColors(points, rgb.float())):
        with pytest.raises(ValueError, match="colours"):
            library.with_colors({"a": wrong})
    with pytest.raises(ValueError, match="finite"):
        library.with_colors({"a": SurfaceColors(points / 0.0, rgb)})


def test_shapes_added_after_the_training_are_counted() -> None:
    library = ShapeLibrary(("a", "b"), torch.eye(2), torch.zeros(2, 3), torch.ones(2, 3))
    assert library.added == 0 and library.trained is library
    new = torch.ones(2), torch.zeros(3), torch.ones(3)
    extended = library.with_shape("c", *new, trained=False).with_shape("d", *new)
    assert extended.names == ("a", "b", "c", "d") and extended.added == 2
    assert extended.to("cpu").added == 2 and library.with_shape("c", *new).added == 0
    known = extended.trained
    assert known.names == library.names and known.added == 0
    assert torch.equal(known.codes, library.codes) and len(known.symmetries) == 2
    for added in (-1, 2, 1.0, "1"):
        with pytest.raises(ValueError, match="of 2 shapes were added"):
            dataclasses.replace(library, added=added)
