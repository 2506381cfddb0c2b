"""Names of models: one a content, the same in use and in a file."""

import pytest
import torch
from tiny_model import write_tiny_model

from crisp_ros.network.checkpoint import Model, load_model, save_model
from crisp_ros.network.model import HEADS
from crisp_ros.pipeline import learned_version, model_version, original_version

CHECKSUM = "0123456789abcdef"


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    network = load_model(write_tiny_model(tmp_path_factory.mktemp("tiny"))).network
    with torch.no_grad():
        for parameter in heads(network).values():
            parameter.mul_(1.0001)  # as learned ones, they have digits that half precision loses
    return network


def heads(network):
    return {n: p for n, p in network.named_parameters() if n.startswith(HEADS)}


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ({"version": "1.0.0", "sha256": CHECKSUM}, "1.0.0-0123456789ab"),
        ({"version": "1.0.0+local", "sha256": CHECKSUM}, "1.0.0+local-0123456789ab"),
        ({"sha256": CHECKSUM}, "0123456789ab"),
        ({"version": "1.0.0"}, "1.0.0"),
        ({}, "unsaved"),
    ],
)
def test_a_model_is_named_by_its_version_and_checksum(network, header, name):
    model = Model(network, None, header)
    assert model_version(model) == original_version(model) == name


def test_equal_heads_have_one_name_and_others_another(network):
    mine = heads(network)
    moved = {name: value.detach() + 1e-6 for name, value in mine.items()}
    name = learned_version("1.0.0-abc", 3, mine)
    assert name.startswith("1.0.0-abc+3-")
    assert learned_version("1.0.0-abc", 3, dict(reversed(mine.items()))) == name
    others = [
        learned_version("1.0.0-abc", 3, moved),
        learned_version("1.0.0-abc", 4, mine),
        learned_version("2.0.0-abc", 3, mine),
    ]
    assert len({name, *others}) == 4


def test_a_self_trained_model_is_named_by_its_heads(network, tmp_path):
    learned = {"original": "f" * 64, "original_version": "1.0.0+local-ffffffffffff", "number": 2}
    model = Model(network, None, {"version": "1.0.0+local+2", "self_training": learned})
    name = model_version(model)
    assert name == learned_version("1.0.0+local-ffffffffffff", 2, heads(network))
    save_model(tmp_path / "exact", model, torch.float32)
    assert model_version(load_model(tmp_path / "exact")) == name
    save_model(tmp_path / "rounded", model)
    assert model_version(load_model(tmp_path / "rounded")) != name, "these are other weights"


def test_before_the_first_swap_it_is_the_original(network):
    learned = {"original": "f" * 64, "original_version": "1.0.0-ffffffffffff", "number": 0}
    model = Model(network, None, {"version": "1.0.0+0", "self_training": learned})
    assert model_version(model) == "1.0.0-ffffffffffff"


def test_without_original_version_its_checksum_names_it(network):
    header = {"version": "1.0.0+2", "self_training": {"original": "f" * 64, "number": 2}}
    expected = learned_version("1.0.0-ffffffffffff", 2, heads(network))
    assert model_version(Model(network, None, {**header, "sha256": CHECKSUM})) == expected
