"""Uploads, as far as they can be tested without a GPU."""

import torch

from crisp_ros.geometry.upload import upload


def test_on_the_host_nothing_is_copied() -> None:
    tensor = torch.rand(3)
    assert upload(tensor, torch.device("cpu")) is tensor


def test_other_devices_get_the_tensor() -> None:
    moved = upload(torch.rand(3, 2), torch.device("meta"))
    assert moved.device.type == "meta" and moved.shape == (3, 2)
