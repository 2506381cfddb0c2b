"""The paper's network in bfloat16: how far coordinates move, in millimetres.

`pytest -s test/network/test_dpt_precision.py` prints the figures that docs/unseen.md quotes.
"""

from pathlib import Path

import numpy as np
import pytest
import roma
import torch
from analytic_scene import COLOUR_RANGE_M, rendered
from known import load_known
from readable_checkpoint import smooth_weights

from crisp_ros.network.maps import crop_grid, read_maps
from crisp_ros.network.official import OfficialOptions, import_official
from crisp_ros.observation.observe import ObservationSettings, observe

SIZE = 224


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.Tensor, torch.Tensor]:
    """Coordinates (N, 3) in metres of one object's points, in float32 and in bfloat16.

    The last layer of a random network is fitted to the frame, so that they are coordinates.
    """
    (shape,) = load_known().named("mug")
    pose = np.eye(4)
    pose[:3, :3] = roma.rotvec_to_rotmat(torch.tensor([2.2, 0.5, -0.4])).numpy()
    pose[:3, 3] = (0.04, -0.03, 0.5)
    seen = observe(
        rendered([shape], [pose], [3]).frame, ObservationSettings(), SIZE, crop_rule="tight"
    )
    path: Path = tmp_path_factory.mktemp("precision") / "a.pth"
    torch.save({"model": smooth_weights()}, path)
    network = import_official(path, options=OfficialOptions("metric", SIZE)).network
    network = network.to(memory_format=torch.channels_last)
    last, inputs = network.pnc_head.output.conv3, []
    hook = last.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    grid, valid = crop_grid(seen.pixels, seen.boxes), seen.valid[0]
    with torch.no_grad():
        network(seen.crops)
        hook.remove()
        features = read_maps(inputs[0], grid)[0][valid]
        features = torch.cat([features, torch.ones(len(features), 1)], dim=1).double()
        true = ((read_maps(seen.crops, grid)[0][valid] - 0.5) * COLOUR_RANGE_M).double()
        ridge = 1e-3 * len(features) * torch.eye(features.shape[1], dtype=torch.float64)
        fit = torch.linalg.solve(features.T @ features + ridge, features.T @ true).float()
        last.weight.copy_(fit[:-1].T[..., None, None])
        last.bias.copy_(fit[-1])
        exact = read_maps(network(seen.crops).pnc, grid)[0][valid]
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network(seen.crops).pnc
    assert rounded.dtype == torch.float32, "the last layer is not rounded"
    return exact, read_maps(rounded, grid)[0][valid]


def test_bfloat16_moves_coordinates_by_few_millimetres(answers) -> None:
    exact, rounded = answers
    assert exact.std(dim=0).norm() > 0.02, "coordinates of an object of ten centimetres"
    moved = 1e3 * (exact - rounded).norm(dim=-1)
    print(f"mean {moved.mean():.2f} mm, 95 % {moved.quantile(0.95):.2f}, most {moved.max():.2f}")
    assert moved.mean() < 2.0 and moved.max() < 6.0
