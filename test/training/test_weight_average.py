import torch

from crisp_ros.training.weight_average import WeightAverage


def test_the_mean_agrees_with_its_recursion():
    parameter = torch.nn.Parameter(torch.zeros(1))
    average, expected = WeightAverage([parameter], 0.9), 0.0
    for step in range(200):
        with torch.no_grad():
            parameter.add_(1.0)
        average.update(step)
        share = min(0.9, (step + 1) / (step + 10))
        expected = share * expected + (1 - share) * (step + 1)
    assert abs(average.mean[0].item() - expected) < 1e-3 and expected < 195
    with average.applied():
        assert torch.equal(parameter.data, average.mean[0])
    assert parameter.item() == 200.0
    average.apply()
    assert torch.equal(parameter.data, average.mean[0])


def test_without_averaging_the_mean_is_the_latest():
    parameter = torch.nn.Parameter(torch.zeros(3))
    average = WeightAverage([parameter], 0.0)
    with torch.no_grad():
        parameter.copy_(torch.tensor([0.1, -7.3, 1e-9]))
    average.update(0)
    assert torch.equal(average.mean[0], parameter.data)


def test_a_stored_mean_is_continued():
    first = WeightAverage([torch.nn.Parameter(torch.ones(2))], 0.5)
    second = WeightAverage([torch.nn.Parameter(torch.zeros(2))], 0.5)
    second.load(first.mean)
    second.apply()
    assert torch.equal(second.mean[0], torch.ones(2))
