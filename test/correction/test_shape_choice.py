"""Choice of the source of a shape: what competes, and the settings of each mode."""

import pytest
import torch

from crisp_ros.correction.corrector import CorrectorSettings
from crisp_ros.correction.correspondences import Shapes
from crisp_ros.correction.shape_choice import is_named, with_shape_mode


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


def test_modes_change_the_shape_solver_only() -> None:
    given = CorrectorSettings(solver="gradient", rounds=1)
    assert with_shape_mode(given, "library") == with_shape_mode(given, "auto") == given
    network = with_shape_mode(given, "network")
    assert network.shape == "none" and network.solver == "gradient"
    active = with_shape_mode(given, "active")
    assert active.shape == "lsq" and not active.active_shape.one_hot and active.rounds == 2
    assert not active.returns_library_shapes


@pytest.mark.parametrize("mode", ["active", "auto", "library"])
def test_a_shape_solver_of_its_own_is_kept(mode) -> None:
    descent = CorrectorSettings(shape="projected_gradient")
    assert with_shape_mode(descent, mode) == descent
