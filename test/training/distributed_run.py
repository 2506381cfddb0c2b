"""A short training as one of the processes that torchrun started; see test_processes.py."""

import sys
from pathlib import Path

import torch

from crisp_ros.network.model import CrispNetwork, NetworkConfig
from crisp_ros.synthesis.crop_set import CropSet
from crisp_ros.training.processes import training_processes
from crisp_ros.training.sdf_samples import SdfSamples
from crisp_ros.training.supervised import ShapeTargets, SupervisedTrainer
from crisp_ros.training.training_settings import JointSdfSettings, TrainingSettings


def main(crops: str, folder: str) -> None:
    torch.set_num_threads(1)
    settings = TrainingSettings(
        steps=4,
        batch=8,
        crop_px=32,
        optimiser="adam",
        learning_rate=1e-3,
        warmup=0,
        schedule="constant",
        pnc_weight=50.0,
        sdf=JointSdfSettings(1.0, 8, 8, 8),
        bfloat16=False,
        frozen=(),
        held_out_crops=16,
        evaluate_every=4,
    )
    generator = torch.Generator().manual_seed(0)
    points = 0.1 * torch.randn(2, 90, 3, generator=generator)
    with training_processes() as processes:
        torch.manual_seed(0)
        network = CrispNetwork(NetworkConfig("compact", 32, 2, 16, (32,), 8, 2, False))
        SupervisedTrainer(
            network,
            ShapeTargets(
                [torch.eye(4)[None]] * 2,
                samples=SdfSamples(points, points.norm(dim=-1) - 0.05),
            ),
            CropSet(Path(crops)),
            settings,
            Path(folder),
            processes=processes,
        ).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
