"""Two processes of torchrun train as one process does with the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from crisp_ros.network.model import CrispNetwork, NetworkConfig
from crisp_ros.synthesis.crop_set import CropSet
from crisp_ros.training.processes import Processes, training_processes
from crisp_ros.training.recipe import RecipeError
from crisp_ros.training.supervised import ShapeTargets, SupervisedTrainer
from crisp_ros.training.training_settings import TrainingSettings

CONFIG = NetworkConfig("compact", 32, 2, 16, (32,), 8, 2, False)
SCRIPT = Path(__file__).with_name("distributed_run.py")


def trained(crops: Path, folder: Path, *launcher: str) -> dict[str, torch.Tensor]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(SCRIPT), str(crops), str(folder)]
    subprocess.run(command, check=True, env=environment, timeout=300, capture_output=True)
    return torch.load(folder / "state.pt", weights_only=True)


def test_two_processes_end_where_one_does(crops_folder, tmp_path):
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    two = trained(crops_folder, tmp_path / "two", *torchrun)
    one = trained(crops_folder, tmp_path / "one")
    assert two["step"] == one["step"] == 4
    torch.manual_seed(0)
    start = CrispNetwork(CONFIG).state_dict()

    def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
        return sum(float((a[name] - b[name]).abs().sum()) for name in start)

    # Adam makes much of gradients that are zero but for rounding, so not every weight is compared.
    assert distance(two["network"], one["network"]) < 0.01 * distance(one["network"], start)
    for name in ("decoder.final_layer.weight", "pnc_head.final.2.weight"):
        assert torch.allclose(two["network"][name], one["network"][name], atol=1e-6)
        assert not torch.allclose(start[name], one["network"][name], atol=1e-4)


def test_a_lone_process_is_the_first_and_waits_for_nobody():
    with training_processes() as processes:
        assert processes == Processes() and processes.is_first
        processes.wait()


def test_a_batch_must_be_divisible(crops_folder, tmp_path):
    network = CrispNetwork(CONFIG)
    with pytest.raises(RecipeError, match="shared out among 3 processes"):
        SupervisedTrainer(
            network,
            ShapeTargets([torch.eye(4)[None]] * 2, torch.zeros(2, network.decoder.code_dim)),
            CropSet(crops_folder),
            TrainingSettings(steps=1, batch=8, held_out_crops=8),
            tmp_path,
            processes=Processes(rank=1, count=3),
        )
