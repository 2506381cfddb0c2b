import numpy as np
import torch
from tracking.scenes import CUP, MUG, SHAPES, library, rotations

from crisp_ros.tracking.known_shapes import KnownShapes


def test_a_code_near_a_library_shape_stands_for_it():
    known = KnownShapes(library(SHAPES), tolerance=0.25)
    codes = np.eye(len(SHAPES), dtype=np.float32)
    for k, code in enumerate(codes):
        assert known.index(code) == k
        assert known.index(0.8 * code + 0.2 * codes[k - 1]) == k
        assert known.index(0.5 * code + 0.5 * codes[k - 1]) == -1


def test_symmetries_go_with_the_shape():
    known = KnownShapes(library((CUP, MUG), (rotations([0, 0, 1], 36), np.eye(4)[None])), 0.25)
    assert len(known.symmetries(0).axes) == 1
    assert len(known.symmetries(1).transforms) == 1
    assert known.symmetries(-1) is None


def test_equal_codes_are_recognised_among_near_duplicates():
    twice = library((CUP, MUG))
    object.__setattr__(twice, "codes", torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    assert KnownShapes(twice, 0.25).index(np.array([1.0, 1e-6], np.float32)) == 0


def test_differences_lie_between_zero_and_one():
    codes = np.eye(3, dtype=np.float32)
    known = KnownShapes(library(SHAPES[:3]), 0.25)
    assert np.allclose(known.difference(codes, codes), 1 - np.eye(3))
    alone = KnownShapes(None, 0.25)
    assert np.allclose(alone.difference(codes, 1.1 * codes)[0], [0.1 / 1.1, 1.0, 1.0])
    assert alone.index(codes[0]) == -1
