import torch

from crisp_ros.network.model import build_network, network_config


def test_compact_keeps_to_its_budget():
    network = build_network("compact")
    assert sum(p.numel() for p in network.parameters()) < 12e6
    assert sum(p.numel() for p in network.parameters()) * 2 < 20e6


def test_compact_predicts_pnc_at_half_resolution_for_any_size():
    torch.manual_seed(0)
    network = build_network("compact").eval()
    assert network_config("compact").pnc_stride == 2
    with torch.no_grad():
        for side in (96, 128):
            output = network(torch.rand(2, 3, side, side))
            assert output.pnc.shape == (2, 3, side // 2, side // 2)
            assert output.code.shape == (2, network.decoder.code_dim)
            assert output.pnc.abs().max() < 1.0


def test_every_pixel_sees_the_whole_crop():
    torch.manual_seed(0)
    network = build_network("compact").eval()
    crop = torch.rand(1, 3, 96, 96, requires_grad=True)
    network(crop).pnc[0, :, 2, 2].sum().backward()
    reach = crop.grad.abs().amax(1)[0]
    assert (reach[-16:, -16:] > 0).any()
