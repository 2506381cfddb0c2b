"""Training of the segmentation network on rendered clutter; a killed run is continued."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import trimesh
from torch import Tensor

from crisp_ros.segmentation.network import SegmenterMaps, SegmenterNetwork
from crisp_ros.synthesis.clutter_frames import ClutterSettings
from crisp_ros.validation import check_ranges, ranged

from .saved_state import save_state
from .segmenter_frames import read_frames, write_frames
from .segmenter_samples import SegmenterSample, segmenter_sample
from .training_settings import rising_cosine

STATE = "state.pt"
_SAVE_S = 200.0
_REPORT_STEPS = 50


@dataclass(frozen=True)
class SegmenterTraining:
    """Settings of a training.

    Attributes:
        files, frames: of rendered images: how many files, and frames in each.
        steps, batch: of the optimiser, and images of each.
        learning_rate: the largest; it rises at first and falls to zero along a cosine.
        average: decay of the moving average of the weights, a step.
        seed: of everything.
        scenes: see `ClutterSettings`.
    """

    files: int = ranged(24, 1)
    frames: int = ranged(240, 1)
    steps: int = ranged(6000, 1)
    batch: int = ranged(8, 1)
    learning_rate: float = ranged(1.5e-3, 0.0)
    average: float = ranged(0.998, 0.0, 1.0)
    seed: int = ranged(0, 0)
    scenes: ClutterSettings = field(default_factory=ClutterSettings)

    def __post_init__(self) -> None:
        check_ranges(self)


def train_segmenter(
    meshes: Sequence[trimesh.Trimesh],
    folder: Path,
    settings: SegmenterTraining,
    report: Callable[[str, dict[str, float]], None] = lambda stage, figures: None,
) -> SegmenterNetwork:
    """Render what is missing, train, and return the network with averaged weights.

    Args:
        meshes: objects that are mixed with procedural shapes; may be empty.
        folder: of the rendered frames and the state, from which an ended run continues.
        settings: see `SegmenterTraining`.
        report: called with the stage, "frames" or "training", and its figures.
    """
    files = _rendered(meshes, folder / "frames", settings, report)
    torch.manual_seed(settings.seed)
    state = _State(settings, folder / STATE)
    samples = _samples(files, settings, state.step)
    saved, losses = time.monotonic(), []
    while state.step < settings.steps:
        losses.append(state.train(_batch([next(samples) for _ in range(settings.batch)])))
        if state.step % _REPORT_STEPS == 0:
            means = np.mean(losses, axis=0).tolist()
            figures = dict(zip(("foreground", "offset", "border"), means, strict=True))
            report("training", {"step": state.step, **figures})
            losses = []
        if time.monotonic() - saved > _SAVE_S:
            state.save()
            saved = time.monotonic()
    state.save()
    return state.averaged


class _State:
    """Network, average and optimiser of a run."""

    def __init__(self, settings: SegmenterTraining, path: Path) -> None:
        self._settings, self._path = settings, path
        self.network = SegmenterNetwork().to(memory_format=torch.channels_last)
        self.averaged = copy.deepcopy(self.network).eval()
        self._optimizer = torch.optim.AdamW(
            self.network.parameters(), settings.learning_rate, weight_decay=0.01
        )
        self.step = 0
        if path.exists():
            stored = torch.load(path, weights_only=True)
            self.network.load_state_dict(stored["network"])
            self.averaged.load_state_dict(stored["averaged"])
            self._optimizer.load_state_dict(stored["optimizer"])
            self.step = stored["step"]

    def train(self, batch: tuple[Tensor, ...]) -> tuple[float, float, float]:
        """Take one step; return the losses of foreground, offsets and borders."""
        inputs, *targets = batch
        share = rising_cosine(self.step, self._settings.steps)
        for group in self._optimizer.param_groups:
            group["lr"] = self._settings.learning_rate * share
        with torch.autocast("cpu", torch.bfloat16):
            maps = self.network(inputs.contiguous(memory_format=torch.channels_last))
        losses = segmenter_losses(maps, *targets)
        self._optimizer.zero_grad()
        (losses[0] + losses[1] + 0.5 * losses[2]).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self._optimizer.step()
        self.step += 1
        self._average()
        return tuple(loss.item() for loss in losses)

    def save(self) -> None:
        stored = {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": self.step,
        }
        save_state(stored, self._path)

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self._settings.average, (1.0 + self.step) / (10.0 + self.step))
        own = self.network.state_dict()
        for name, value in self.averaged.state_dict().items():
            if value.dtype.is_floating_point:
                value.lerp_(own[name], 1.0 - decay)
            else:
                value.copy_(own[name])


def segmenter_losses(
    maps: SegmenterMaps, labels: Tensor, offset: Tensor, border: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses of foreground, offsets and borders; see `SegmenterSample` for the targets."""
    objects = (labels > 0).float()
    foreground = F.binary_cross_entropy_with_logits(maps.foreground, objects)
    apart = F.smooth_l1_loss(maps.offset, offset, reduction="none", beta=0.1).sum(1)
    offsets = (apart * weight).sum() / weight.sum().clamp(min=1.0)
    at_border = F.binary_cross_entropy_with_logits(
        maps.border, border.float(), reduction="none", pos_weight=torch.tensor(3.0)
    )
    return foreground, offsets, (at_border * objects).sum() / objects.sum().clamp(min=1.0)


def _rendered(
    meshes: Sequence[trimesh.Trimesh],
    folder: Path,
    settings: SegmenterTraining,
    report: Callable[[str, dict[str, float]], None],
) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"frames_{i:03}.npz" for i in range(settings.files)]
    for index, path in enumerate(paths):
        if not path.exists():
            seed = settings.seed + index
            write_frames(path, meshes, settings.scenes, seed, settings.frames)
            report("frames", {"files": index + 1, "of": settings.files})
    return paths


def _samples(
    files: Sequence[Path], settings: SegmenterTraining, step: int
) -> Iterator[SegmenterSample]:
    rng = np.random.default_rng([settings.seed, step])
    while True:
        for file in rng.permutation(len(files)):
            frames = read_frames(files[file])
            for index in rng.permutation(len(frames.rgb)):
                yield segmenter_sample(frames, int(index), rng)


def _batch(samples: Sequence[SegmenterSample]) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(np.stack(column)) for column in zip(*samples, strict=True))
