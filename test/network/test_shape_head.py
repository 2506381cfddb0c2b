"""The shape head: hidden layers of any width, each linear, LayerNorm, ReLU."""

import pytest
import torch

from crisp_ros.network.shape_head import ShapeHead


@pytest.mark.parametrize("hidden", [(), (6,), (6, 9, 4)])
def test_layer_by_layer(hidden: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    head = ShapeHead(5, hidden, 7)
    linears = [layer for layer in head.layers if isinstance(layer, torch.nn.Linear)]
    assert [layer.out_features for layer in linears] == [*hidden, 7]
    pooled = torch.randn(3, 5)
    x = pooled
    for linear in linears[:-1]:
        x = x @ linear.weight.T + linear.bias
        x = x - x.mean(dim=1, keepdim=True)
        x = (x / (x.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()).clamp(min=0)
    x = x @ linears[-1].weight.T + linears[-1].bias
    torch.testing.assert_close(head(pooled), x)
