import math

import torch

from crisp_ros.training.held_out_errors import coordinate_errors, rotation_errors


def maps(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(count, 3, 8, 8, generator=generator) * 0.05
    mask = torch.rand(count, 8, 8, generator=generator) < 0.5
    return target, mask


def test_the_angle_of_rotated_coordinates_is_found():
    target, mask = maps(5)
    for degrees in (0.0, 20.0, 179.0):
        angle = math.radians(degrees)
        R = torch.tensor(
            [
                [math.cos(angle), -math.sin(angle), 0],
                [math.sin(angle), math.cos(angle), 0],
                [0, 0, 1],
            ]
        )
        moved = (R @ target.flatten(2)).view_as(target) + 0.03
        moved = torch.where(mask[:, None], moved, 9.0)
        found = rotation_errors(moved, target, mask)
        assert torch.allclose(torch.rad2deg(found), torch.full((5,), degrees), atol=0.05)


def test_a_mirrored_object_is_not_a_rotation():
    target, mask = maps(3)
    mirrored = target * torch.tensor([-1.0, 1.0, 1.0])[:, None, None]
    assert rotation_errors(mirrored, target, mask).min() > 0.1


def test_coordinate_errors_agree_with_a_loop():
    target, mask = maps(3)
    pnc = target + 0.01 * torch.randn(target.shape, generator=torch.Generator().manual_seed(1))
    mask[2] = False
    for i, error in enumerate(coordinate_errors(pnc, target, mask).tolist()):
        listed = [
            abs(float(pnc[i, c, v, u] - target[i, c, v, u]))
            for v in range(8)
            for u in range(8)
            if mask[i, v, u]
            for c in range(3)
        ]
        assert math.isclose(error, sum(listed) / max(len(listed), 1), rel_tol=1e-5)
