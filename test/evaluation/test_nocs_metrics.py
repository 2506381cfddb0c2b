"""NOCS's precision against a plain restatement of its rule, grids of points and values by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from crisp_ros.evaluation.nocs_metrics import (
    Box,
    ImageBoxes,
    average_precision,
    box_iou,
    nocs_precision,
    overlap,
    pose_difference,
    published_box_iou,
)


def box(
    category: str = "camera",
    rotation: Rotation | None = None,
    place: tuple[float, float, float] = (0.0, 0.0, 1.0),
    edges: tuple[float, float, float] = (0.1, 0.1, 0.1),
    **more: object,
) -> Box:
    T = np.eye(4)
    T[:3, :3] = (rotation or Rotation.identity()).as_matrix()
    T[:3, 3] = place
    half = np.array(edges) / 2
    return Box(category, T, -half, half, **more)


def about(axis: str, degrees: float) -> Rotation:
    return Rotation.from_euler(axis, degrees, degrees=True)


def test_overlap_is_the_share_of_a_grid_of_points() -> None:
    a = box(edges=(0.3, 0.2, 0.1)).corners()
    b = box(place=(0.05, 0.02, 1.03), rotation=about("z", 90), edges=(0.25, 0.3, 0.1)).corners()
    ticks = np.linspace(-0.3, 0.3, 121) + 0.0025
    grid = np.stack(np.meshgrid(ticks, ticks, ticks + 1), axis=-1).reshape(-1, 3)
    in_a, in_b = (((grid > c.min(axis=0)) & (grid < c.max(axis=0))).all(axis=1) for c in (a, b))
    assert box_iou(a, b) == pytest.approx((in_a & in_b).sum() / (in_a | in_b).sum(), abs=0.02)


@given(
    seed=st.integers(0, 10_000),
    distance=st.floats(0.0, 0.3),
    thin=st.floats(0.02, 1.0),
)
@settings(deadline=None, max_examples=40)
def test_overlap_of_turned_boxes_is_the_share_of_random_points(
    seed: int, distance: float, thin: float
) -> None:
    rng = np.random.default_rng(seed)
    boxes = [
        box(
            rotation=Rotation.random(random_state=rng.integers(2**31)),
            place=tuple(np.array([0.0, 0.0, 1.0]) + shift),
            edges=tuple(rng.uniform(0.05, 0.4, 3) * [1.0, 1.0, thin]),
        )
        for shift in (np.zeros(3), distance * rng.uniform(-1.0, 1.0, 3))
    ]
    a, b = boxes
    # Points drawn in the one box, and the share of them that lie in the other.
    drawn = rng.uniform(a.lower, a.upper, (40_000, 3)) @ a.T_camera_object[:3, :3].T
    T = np.linalg.inv(b.T_camera_object)
    inside = (drawn + a.T_camera_object[:3, 3]) @ T[:3, :3].T + T[:3, 3]
    share = ((inside > b.lower) & (inside < b.upper)).all(axis=1).mean()
    common = share * np.prod(a.upper - a.lower)
    either = np.prod(a.upper - a.lower) + np.prod(b.upper - b.lower) - common
    found = box_iou(a.corners(), b.corners())
    assert found == pytest.approx(common / either, abs=0.012)
    assert box_iou(b.corners(), a.corners()) == pytest.approx(found, abs=1e-9)


def test_overlap_by_hand() -> None:
    cube = box().corners()
    assert box_iou(cube, cube) == pytest.approx(1.0)
    # Turned by 45 degrees the common body is a regular octagon's prism.
    octagon = 2.0 * (np.sqrt(2.0) - 1.0)
    rotated = box(rotation=about("y", 45)).corners()
    assert box_iou(cube, rotated) == pytest.approx(octagon / (2.0 - octagon))
    assert box_iou(cube, box(place=(0.1, 0.0, 1.0)).corners()) == pytest.approx(0.0, abs=1e-9)
    assert box_iou(cube, box(place=(0.5, 0.0, 1.0)).corners()) == 0.0
    inside = box(edges=(0.05, 0.05, 0.05), rotation=about("x", 30)).corners()
    assert box_iou(cube, inside) == pytest.approx(1.0 / 8.0)
    assert box_iou(cube, box(edges=(0.1, 0.1, 0.0)).corners()) == 0.0


def test_half_an_edge_apart_is_a_third_wherever_the_camera_is() -> None:
    """The published script gives 0, 0.907 and 1.0 for these places (found by running it)."""
    published = []
    for x, y, z in ((0.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.3, 0.2, 1.0)):
        a, b = box(place=(x, y, z)).corners(), box(place=(x + 0.05, y, z)).corners()
        assert box_iou(a, b) == pytest.approx(1 / 3)
        published.append(published_box_iou(a, b))
    assert published == pytest.approx([0.0, 0.907, 1.0], abs=5e-4)


def test_what_turns_freely_may_be_turned_and_nothing_else() -> None:
    long = {"edges": (0.3, 0.1, 0.1)}
    for category, visible, free in (
        ("can", True, True), ("bottle", True, True), ("bowl", True, True), ("mug", False, True),
        ("mug", True, False), ("camera", True, False), ("laptop", True, False),
    ):  # fmt: skip
        truth = box(category, handle_visible=visible, **long)
        estimate = box(category, about("y", 90), **long)
        assert overlap(truth, estimate) == pytest.approx(1.0 if free else 0.2)
        degrees, _ = pose_difference(truth, box(category, about("y", 77)))
        assert degrees == pytest.approx(0.0 if free else 77.0, abs=1e-6)
        degrees, _ = pose_difference(truth, box(category, about("x", 33)))
        assert degrees == pytest.approx(33.0)


@given(seed=st.integers(0, 10_000))
def test_angles_are_those_of_scipy(seed: int) -> None:
    a, b = Rotation.random(2, random_state=seed)
    degrees, cm = pose_difference(box(rotation=a), box(rotation=b, place=(0.03, 0.04, 1.0)))
    assert degrees == pytest.approx(np.degrees((a.inv() * b).magnitude()), abs=1e-4)
    assert cm == pytest.approx(5.0)
    y = np.degrees(np.arccos(np.clip(a.apply([0, 1, 0]) @ b.apply([0, 1, 0]), -1, 1)))
    assert pose_difference(box("can", a), box("can", b))[0] == pytest.approx(y, abs=1e-4)


@pytest.mark.parametrize(
    "hits, truths, expected",
    [
        ([1, 1], 2, 1.0),
        ([0, 0], 2, 0.0),
        ([], 3, 0.0),
        ([1, 0, 1], 2, 0.5 + 0.5 * 2 / 3),
        ([0, 1, 1], 2, 2 / 3),  # the precision before a rise counts as that after it
        ([1], 4, 0.25),
    ],
)
def test_precision_by_hand(hits: list[int], truths: int, expected: float) -> None:
    scores = np.linspace(0.9, 0.1, len(hits))
    assert average_precision(hits, scores, truths) == pytest.approx(expected)
    order = np.random.default_rng(0).permutation(len(hits))
    shuffled = average_precision(np.array(hits)[order], scores[order], truths)
    assert shuffled == pytest.approx(expected)


def test_precision_without_truths_is_none() -> None:
    assert math.isnan(average_precision([1], [0.5], 0))


def naive_precision(images: list[ImageBoxes], category: str) -> dict[str, float]:
    """The published rule once more, one loop after the other, over lists."""
    lists: dict[str, list[tuple[float, bool]]] = {}
    truths_of: dict[str, int] = {}

    def match(
        key: str, estimates: list[Box], truths: list[Box], better: object, fits: object
    ) -> list[tuple[Box, Box]]:
        taken: list[int] = []
        pairs = []
        for estimate in estimates:
            order = sorted(range(len(truths)), key=lambda j: better(estimate, truths[j]))
            order = [j for j in order if j not in taken and fits(estimate, truths[j])]
            lists.setdefault(key, []).append((estimate.score, bool(order)))
            if order:
                taken.append(order[0])
                pairs.append((estimate, truths[order[0]]))
        truths_of[key] = truths_of.get(key, 0) + len(truths)
        return pairs

    def by_iou(e: Box, t: Box) -> float:
        return -overlap(t, e)

    for image in images:
        truths = [b for b in image.truths if b.category == category]
        estimates = sorted(
            (b for b in image.estimates if b.category == category), key=lambda b: -b.score
        )
        for name, limit in (("25", 0.25), ("50", 0.5), ("75", 0.75)):
            match(name, estimates, truths, by_iou, lambda e, t, x=limit: overlap(t, e) > x)
        pairs = match("", estimates, truths, by_iou, lambda e, t: overlap(t, e) > 0.1)
        close = [t for t in truths if any(t is p for _, p in pairs)]
        for degrees, cm in ((5, 5), (5, 10), (10, 5), (10, 10)):
            match(
                f"{degrees}deg{cm}cm", [e for e, _ in pairs], close,
                lambda e, t: sum(pose_difference(t, e)),
                lambda e, t, d=degrees, c=cm: (
                    pose_difference(t, e)[0] <= d and pose_difference(t, e)[1] <= c
                ),
            )  # fmt: skip
    nothing = 0.0 if any(b.category == category for i in images for b in i.truths) else math.nan
    return {
        key: naive_area(lists.get(key, []), truths_of[key], nothing) for key in truths_of if key
    }


def naive_area(found: list[tuple[float, bool]], truths: int, nothing: float) -> float:
    """The mean over recall levels of the best precision at that recall or beyond."""
    if truths == 0:
        return nothing
    found = sorted(found, key=lambda pair: -pair[0])
    points, right = [], 0
    for count, (_, hit) in enumerate(found, start=1):
        right += hit
        points.append((right, right / count))
    levels = range(1, truths + 1)
    return sum(max((p for r, p in points if r >= n), default=0.0) for n in levels) / truths


def scene(rng: np.random.Generator) -> ImageBoxes:
    """Few objects near one another, and estimates near them, too near and too far."""
    truths, estimates = [], []
    for _ in range(rng.integers(0, 4)):
        category = str(rng.choice(["mug", "camera"]))
        rotation = Rotation.random(random_state=rng)
        place = (*rng.uniform(-0.1, 0.1, 2), 1.0)
        truths.append(box(category, rotation, place, handle_visible=bool(rng.integers(2))))
        for _ in range(rng.integers(0, 3)):
            off = about("xyz"[rng.integers(3)], rng.choice([2.0, 7.0, 30.0]))
            moved = tuple(np.array(place) + rng.normal(0, 0.03, 3))
            estimates.append(box(category, rotation * off, moved, score=float(rng.random())))
    return ImageBoxes(truths, estimates)


@pytest.mark.parametrize("seed", range(12))
def test_precision_of_data_sets_is_that_of_plain_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    images = [scene(rng) for _ in range(6)]
    precision = nocs_precision(images)
    for category in ("mug", "camera"):
        naive = naive_precision(images, category)
        ours = precision.iou[category] | precision.pose[category]
        assert ours == pytest.approx(naive, nan_ok=True)
    assert math.isnan(precision.iou["bowl"]["50"])
    means = np.nanmean([precision.iou[c]["50"] for c in ("mug", "camera")])
    assert precision.mean_iou["50"] == pytest.approx(means)


@pytest.mark.parametrize("missed", ["not found", "30 cm off"])
def test_a_category_in_which_everything_fails_counts_as_nothing(missed: str) -> None:
    truths = [box(name, place=(i, 0.0, 1.0)) for i, name in enumerate(("mug", "camera", "laptop"))]
    estimates = truths[:2]
    if missed == "30 cm off":
        estimates = [*estimates, box("laptop", place=(2.3, 0.0, 1.0))]
    precision = nocs_precision([ImageBoxes(truths, estimates)])
    assert set(precision.pose["laptop"].values()) == {0.0}
    means = (*precision.mean_pose.values(), *precision.mean_iou.values())
    assert means == pytest.approx((2 / 3,) * 7)
    assert all(math.isnan(value) for value in precision.pose["bowl"].values())


def test_truth_as_estimate_is_perfect() -> None:
    images = [scene(np.random.default_rng(seed)) for seed in range(5)]
    images = [ImageBoxes(image.truths, image.truths) for image in images]
    precision = nocs_precision(images)
    assert set(precision.mean_iou.values()) == set(precision.mean_pose.values()) == {1.0}
