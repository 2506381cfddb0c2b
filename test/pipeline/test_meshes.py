import torch
from analytic import household
from analytic_scene import TruthfulNetwork

from crisp_ros.pipeline import decoded_shapes


def test_decoded_shapes_take_points_of_all_shapes_at_once():
    shapes = household()[:3]
    decoder = TruthfulNetwork(shapes, (0,)).decoder
    points = torch.randn(50, 3) * 0.05
    index = torch.tensor([0] * 20 + [2] * 30)
    found = decoded_shapes(decoder, torch.eye(3))(points, index)
    expected = torch.cat((shapes[0].sdf(points[:20]), shapes[2].sdf(points[20:])))
    torch.testing.assert_close(found, expected)
