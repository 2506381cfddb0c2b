import torch

from crisp_ros.network.maps import crop_grid, read_maps


def test_maps_are_read_at_the_exact_position():
    """Maps linear in the image's coordinates, at three resolutions of the same crop."""
    boxes = torch.tensor([[-7.0, 12.0, 96.0]])
    pixels = torch.tensor([[[20.0, 40.0], [3.25, 77.5], [60.0, 90.0]]])
    for size in (24, 48, 96):
        centres = (torch.arange(size) + 0.5) / size * 96 - 0.5
        u, v = centres - 7.0, centres + 12.0
        maps = torch.stack(
            (u.expand(size, size), v[:, None].expand(size, size), u + 2 * v[:, None])
        )
        read = read_maps(maps[None], crop_grid(pixels, boxes))
        expected = torch.cat((pixels, (pixels[..., :1] + 2 * pixels[..., 1:])), dim=-1)
        torch.testing.assert_close(read, expected, atol=1e-3, rtol=0)
