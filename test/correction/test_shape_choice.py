"""Choice of the source of a shape: what competes, and the settings of each mode."""

import numpy as np
import torch
from analytic_scene import CAMERA, rendered
from scipy.spatial.transform import Rotation

from crisp_ros.correction import active_shape, shape_choice
from crisp_ros.correction.corrector import Correction
from crisp_ros.correction.corrector_settings import CORRECTORS, CorrectorSettings
from crisp_ros.correction.correspondences import Correspondences, Shapes
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.shape_choice import (
    ShapeChoiceSettings,
    ShapeChooser,
    is_named,
    name_doubts,
    with_shape_mode,
)
from crisp_ros.correction.shape_source import ShapeSource
from crisp_ros.correction.visibility import Images
from crisp_ros.geometry.se3 import transform


def test_a_code_names_the_shape_that_it_is_much_nearer_to(known) -> None:
    library = known.prepared
    mug, cup = known.codes("mug"), known.codes("cup")
    codes = torch.cat((mug, 0.8 * mug + 0.2 * cup, 0.6 * mug + 0.4 * cup, cup))
    shapes = known.shapes_of(*["mug"] * 4)
    assert is_named(library, codes, shapes, 0.5).tolist() == [True, True, False, False]
    assert is_named(library, codes, shapes, 1.0).tolist() == [True, True, True, False]
    outside = Shapes.of_codes(codes)
    assert not is_named(library, codes, outside, 0.5).any()


def test_a_library_of_one_is_always_named(known) -> None:
    few = known.only("mug")
    codes = known.codes("bar")
    assert is_named(few.prepared, codes, few.shapes_of("mug"), 0.5).tolist() == [True]


def test_codes_far_from_all_shapes_are_doubtful(known, monkeypatch) -> None:
    library = known.prepared
    mug, cup = known.codes("mug"), known.codes("cup")
    codes = torch.cat((mug, 0.8 * mug + 0.2 * cup, 0.5 * mug + 0.5 * cup))
    monkeypatch.setattr(library, "similar", lambda _: ())
    torch.testing.assert_close(name_doubts(library, codes), torch.tensor([0.0, 0.25, 1.0]))
    assert name_doubts(library, codes[:0]).shape == (0,)


def test_codes_between_similar_shapes_are_not_doubtful(known, monkeypatch) -> None:
    library = known.prepared
    mug, cup, bar = (library.names.index(name) for name in ("mug", "cup", "bar"))
    between = 0.6 * library.codes[mug] + 0.4 * library.codes[cup]
    off = library.codes[bar] - library.codes[mug]
    monkeypatch.setattr(library, "similar", {mug: (cup,)}.__getitem__)
    doubts = name_doubts(library, torch.stack((between, between + 0.1 * off)))
    assert doubts[0] < 1e-3 < 0.02 < doubts[1]


def test_modes_change_the_shape_solver_only() -> None:
    given = CorrectorSettings(solver="gradient", rounds=1)
    assert with_shape_mode(given, "library") == with_shape_mode(given, "auto") == given
    network = with_shape_mode(given, "network")
    assert network.shape == "none" and network.solver == "gradient"
    active = with_shape_mode(given, "active")
    assert active.shape == "lsq" and not active.active_shape.one_hot and active.rounds == 2
    assert not active.returns_library_shapes


def test_modes_of_algorithm_1_leave_the_networks_shape_in_or_out() -> None:
    descent = CORRECTORS["alg1"]
    assert with_shape_mode(descent, "active") == with_shape_mode(descent, "auto") == descent
    library = with_shape_mode(descent, "library")
    assert descent.projected_gradient.own_code and not library.projected_gradient.own_code
    assert library.shape == "projected_gradient"


def test_modes_of_algorithm_2_choose_one_shape_or_combine_them() -> None:
    """One of the library on YCBV, the simplex elsewhere."""
    given = CORRECTORS["alg2"]
    assert with_shape_mode(given, "auto") == given
    active, library = (with_shape_mode(given, mode).active_shape for mode in ("active", "library"))
    assert not active.one_hot and active.own_code
    assert library.one_hot and not library.own_code


def seen_at(known, name: str, shape: str) -> tuple[Hypotheses, Images, Correction]:
    """A shape before the camera, and a correction with another one at the same pose."""
    T = np.eye(4)
    T[:3, :3], T[2, 3] = Rotation.from_rotvec([0.7, 0.4, 0.2]).as_matrix(), 0.6
    frame = rendered(known.named(name), [T], [3]).frame
    v, u = np.nonzero(frame.labels == 3)
    x = CAMERA.back_project(u, v, frame.depth[v, u])
    points = torch.from_numpy(x[:: len(x) // 500]).float()[None]
    shapes = known.shapes_of(shape)
    T_object_camera = torch.from_numpy(np.linalg.inv(T)).float()[None]
    pnc = transform(T_object_camera, points)
    valid = torch.ones(points.shape[:2], dtype=torch.bool)
    placed = Hypotheses(
        Correspondences(points, pnc, valid.float(), valid),
        T_object_camera,
        shapes,
        torch.tensor([3]),
        T_object_camera,
        torch.ones(1),
    )
    still = torch.zeros(1, dtype=torch.long)
    correction = Correction(T_object_camera, shapes, pnc, torch.zeros(1), still, still)
    depth, labels = torch.from_numpy(frame.depth), torch.from_numpy(frame.labels)
    return placed, Images(depth, labels, CAMERA), correction


def chosen(known, name: str, shape: str, code: torch.Tensor, **changes: float) -> Correction:
    placed, images, correction = seen_at(known, name, shape)
    settings = ShapeChoiceSettings(**changes)
    chooser = ShapeChooser(known.field, known.prepared, CorrectorSettings(), settings)
    return chooser.choose(placed, code, images, correction)


def refuse(*_: object) -> None:
    raise AssertionError("called in vain")


def test_what_the_library_explains_is_not_decoded(known, monkeypatch) -> None:
    """The network is in doubt between two shapes, and depth is not."""
    monkeypatch.setattr(shape_choice, "decoded_bodies", refuse)
    monkeypatch.setattr(shape_choice, "correct", refuse)
    code = 0.5 * (known.codes("box") + known.codes("bracket"))
    found = chosen(known, "box", "box", code, doubted_above_m=2e-3)
    assert torch.equal(found.shapes.index, known.shapes_of("box").index)


def test_an_own_shape_that_explains_all_is_not_combined(known, monkeypatch) -> None:
    monkeypatch.setattr(shape_choice, "least_squares", refuse)
    found = chosen(known, "box", "bar", known.codes("box"))
    assert found.sources.tolist() == [ShapeSource.NETWORK] and found.shapes.index.tolist() == [-1]
    box = known.shapes_of("box")
    torch.testing.assert_close(found.shapes.upper, box.upper, atol=0.01, rtol=0)


def test_other_shapes_are_combined(known, monkeypatch) -> None:
    """Neither the library's shape nor the network's own explains what is seen."""
    tried = []

    def least_squares(*given):
        tried.append(given)
        return active_shape.least_squares(*given)

    monkeypatch.setattr(shape_choice, "least_squares", least_squares)
    found = chosen(known, "box", "bar", known.codes("sphere"))
    assert len(tried) == 2 * ShapeChoiceSettings().rounds
    assert found.sources.tolist() != [ShapeSource.NETWORK]
