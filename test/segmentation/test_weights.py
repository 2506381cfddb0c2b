"""Files of network weights."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

from crisp_ros.segmentation.network import INPUT_CHANNELS, SegmenterNetwork
from crisp_ros.segmentation.weights import (
    SegmenterWeightsError,
    bundled_weights,
    load_weights,
    save_weights,
)


def test_weights_return_in_half_precision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = SegmenterNetwork().eval()
    save_weights(tmp_path / "a.safetensors", network, {"version": "1"})
    again = load_weights(tmp_path / "a.safetensors")
    assert not again.training
    inputs = torch.randn(1, INPUT_CHANNELS, 64, 96)
    with torch.inference_mode():
        for one, other in zip(network(inputs), again(inputs), strict=True):
            assert torch.allclose(one, other, atol=0.02)
            assert one.shape[-2:] == (32, 48)


def test_files_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(SegmenterWeightsError, match="cannot be read"):
        load_weights(path)
    path.write_bytes(b"not a file of weights")
    with pytest.raises(SegmenterWeightsError, match="cannot be read"):
        load_weights(path)
    safetensors.torch.save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(SegmenterWeightsError, match="not weights of a segmenter"):
        load_weights(path)
    safetensors.torch.save_file({"a": torch.zeros(1)}, path, {"kind": "crisp_ros segmenter"})
    with pytest.raises(SegmenterWeightsError, match="another network"):
        load_weights(path)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    network = SegmenterNetwork()
    network.fine.weight.data[0] = float("nan")
    save_weights(tmp_path / "a.safetensors", network, {})
    with pytest.raises(SegmenterWeightsError, match="not finite"):
        load_weights(tmp_path / "a.safetensors")


def test_the_weights_of_the_package_are_small() -> None:
    assert bundled_weights().stat().st_size <= 8_000_000
    assert isinstance(load_weights(bundled_weights()), SegmenterNetwork)
