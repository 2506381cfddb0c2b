"""Supervised training of a network on stored crops; resumable, by one process or by many."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from crisp_ros.data.atomic_file import atomic_file
from crisp_ros.network.model import CrispNetwork
from crisp_ros.synthesis.crop_set import Crops

from .augment import AugmentSettings, TrainingBatch, augmented
from .continued import continued, differences
from .draws import Draws
from .held_out_errors import coordinate_errors, rotation_errors
from .objective import Losses, Objective, predicted
from .processes import Processes
from .recipe import RecipeError
from .sdf_samples import SdfSamples, drawn
from .stored_views import stored_views
from .training_settings import TrainingSettings, learning_rate
from .weight_average import WeightAverage

_PART = 64  # crops at once where nothing is learned


class CropSource(Protocol):
    """Crops to train on: rendered ones, photographs, or anything else that can be numbered."""

    @property
    def mesh(self) -> NDArray[np.int64]:
        """Mesh index of each crop (n,)."""

    @property
    def scale(self) -> NDArray[np.float32]:
        """Size of each crop's object relative to its mesh (n,)."""

    def __len__(self) -> int: ...

    def batch(self, indices: NDArray[np.int64]) -> Crops:
        """The crops of these numbers."""


class CropSplit(NamedTuple):
    """Numbers of the crops that are held out and of those that are trained on, both ascending."""

    held_out: NDArray[np.int64]
    trained: NDArray[np.int64]


def crop_split(mesh: NDArray[np.int64], settings: TrainingSettings) -> CropSplit:
    """Select the held-out crops: evenly spaced ones among those of each mesh.

    So each mesh has its share of them, whatever the order of the crops, and every mesh that is in a
    crop is trained on; one of very few crops may be held out of none.

    Args:
        mesh: (n,) which mesh each crop shows.
        settings: say how many are held out.

    Raises:
        RecipeError: too few crops to hold out so many and train on a batch and on every mesh.
    """
    count, order = settings.held_out_crops, np.argsort(mesh, kind="stable")
    _, first = np.unique(mesh[order], return_index=True)
    spare = np.delete(order, first)  # of each mesh one crop is trained on in any case
    if count > len(spare) or count > len(mesh) - settings.batch:
        raise RecipeError(
            f"{len(mesh)} crops of {len(first)} meshes: too few to hold out {count}"
            f" (held_out_crops) and to train on a batch of {settings.batch} and on every mesh"
        )
    held_out = np.sort(spare[(2 * np.arange(count) + 1) * len(spare) // (2 * count)])
    return CropSplit(held_out, np.setdiff1d(np.arange(len(mesh)), held_out))


class ShapeTargets(NamedTuple):
    """Targets of the shape head, or of the decoder with it, for K meshes.

    Attributes:
        symmetries: K arrays (S_k, 4, 4) of transforms that leave a mesh's look unchanged.
        codes: (K, C) target shape codes; None where the settings let the decoder learn with the
            heads.
        samples: points around the meshes; only needed without codes.
    """

    symmetries: list[Tensor]
    codes: Tensor | None = None
    samples: SdfSamples | None = None


class SupervisedTrainer:
    """Train a network on crops; every state it writes can be continued from, see `continued`.

    What a step does depends on the seed and its number alone, so that a training that was stopped
    ends as it would have without, and several processes end where one would have.

    Args:
        network: changed in place.
        targets: of the meshes that the crops show.
        crops: the training crops.
        settings: see `TrainingSettings`.
        folder: where `state.pt` and `log.jsonl` go.
        seed: of the order of the crops and of their views.
        processes: those that train together, each with this object; they share `folder`.

    Raises:
        ValueError: codes and samples do not fit the settings.
        RecipeError: the crops are too few, a batch cannot be shared out evenly, or the folder's
            state is of a training with other settings.
    """

    def __init__(
        self,
        network: CrispNetwork,
        targets: ShapeTargets,
        crops: CropSource,
        settings: TrainingSettings,
        folder: Path,
        seed: int = 0,
        processes: Processes | None = None,
    ) -> None:
        processes = processes or Processes()
        symmetries, codes, samples = targets
        if (codes is None) != (settings.sdf is not None) or (codes is None and samples is None):
            raise ValueError("expected target codes, or samples and settings of the SDF term")
        processes.share(settings.batch)
        self.split = crop_split(crops.mesh, settings)
        device = processes.device
        self.network = network.to(device, memory_format=torch.channels_last)
        self.crops, self.settings, self.folder = crops, settings, folder
        self._seed, self._processes, self._samples = seed, processes, samples
        self._codes = None if codes is None else codes.to(device)
        most = max(len(s) for s in symmetries)
        identity = torch.eye(4).expand(most, 4, 4)
        filled = torch.stack([torch.cat([s, identity[len(s) :]]) for s in symmetries])
        self._symmetries = filled.to(device)
        fixed = settings.frozen if settings.sdf is not None else ("decoder.", *settings.frozen)
        for name, parameter in network.named_parameters():
            if name.startswith(fixed):
                parameter.requires_grad_(False)
        make = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimiser]
        learned = [p for p in network.parameters() if p.requires_grad]
        self._average = WeightAverage(learned, settings.averaging)
        self._optimiser = make(
            learned,
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
        )
        self._objective = Objective(network, settings, self._codes, self._symmetries)
        self.step = 0
        self.steps = settings.total_steps(len(self.split.trained))
        self._epoch: tuple[int, NDArray[np.int64]] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        if self._state_path.exists():
            self._resume()

    @property
    def _state_path(self) -> Path:
        return self.folder / "state.pt"

    def run(
        self,
        report: Callable[[dict[str, float]], None] = lambda figures: None,
        on_step: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Train to the last step, from wherever the folder's state stands.

        In the end the network has the mean of its weights (see `TrainingSettings.averaging`).

        Args:
            report: called with the losses and the held-out figures after every evaluation.
            on_step: called after every step with the number done and the total.
        """
        objective = self._objective
        if self._processes.count > 1:
            objective = DistributedDataParallel(objective)
        started, first = time.monotonic(), self.step
        running: dict[str, float] = {}
        self.network.train()
        while self.step < self.steps:
            losses = self._train_step(objective)
            for name, value in losses._asdict().items():
                loss = value.item()
                running[name] = 0.98 * running.get(name, loss) + 0.02 * loss
            self.step += 1
            last = self.step == self.steps
            if not self._processes.is_first:
                continue
            if self.step % self.settings.evaluate_every == 0 or last:
                elapsed = time.monotonic() - started
                rate = (self.step - first) * self.settings.batch / elapsed
                named = {f"{name}_loss": value for name, value in running.items()}
                with self._average.applied():
                    figures = self.evaluate()
                entry = {"step": self.step, "images_per_s": rate, **named, **figures}
                with (self.folder / "log.jsonl").open("a") as log:
                    log.write(json.dumps(entry) + "\n")
                report(entry)
            if self.step % self.settings.save_every == 0 or last:
                self.save()
            on_step(self.step, self.steps)
        self._average.apply()
        self._processes.wait()

    def save(self) -> None:
        """Write the state so that a kill at any moment leaves the old or the new one."""
        with atomic_file(self._state_path) as file:
            torch.save(
                {
                    "network": self.network.state_dict(),
                    "optimiser": self._optimiser.state_dict(),
                    "average": self._average.mean,
                    "step": self.step,
                    "made_with": json.dumps(self._made_with()),
                },
                file,
            )

    def evaluate(self) -> dict[str, float]:
        """Figures on the held-out crops.

        held_out_pnc_mm: mean absolute PNC error a coordinate, over crops; also the median.
        held_out_rotation_median_deg: of the rotation that the coordinates give with perfect depth;
        also the share of crops below 15 degrees.
        held_out_shape: share of codes nearest their own; or, where the decoder learned too,
        held_out_sdf_mm: mean error of the signed distance on and near the surface.
        """
        pnc_mm, rotation_deg, shape = self._held_out()
        return {
            "held_out_pnc_mm": pnc_mm.mean().item(),
            "held_out_pnc_median_mm": pnc_mm.median().item(),
            "held_out_rotation_median_deg": rotation_deg.median().item(),
            "held_out_rotation_below_15_deg": (rotation_deg < 15.0).float().mean().item(),
            "held_out_sdf_mm" if self._codes is None else "held_out_shape": shape.mean().item(),
        }

    def errors(self, names: Sequence[str]) -> dict[str, float]:
        """`held_out_pnc_mm` of each object by its name; those held out of no crop are missing."""
        mesh = self.crops.mesh[self.split.held_out]
        pnc_mm = self._held_out()[0].cpu().numpy()
        return {
            name: float(pnc_mm[mesh == k].mean())
            for k, name in enumerate(names)
            if (mesh == k).any()
        }

    @torch.no_grad()
    def _held_out(self) -> tuple[Tensor, Tensor, Tensor]:
        """PNC error (n,) in mm, rotation error (n,) in degrees and figure of the shape (n,)."""
        self.network.eval()
        indices = self.split.held_out
        errors, rotations, shape = [], [], []
        for part in np.array_split(indices, max(1, len(indices) // _PART)):
            batch, mesh = self.batch(part, AugmentSettings.none())
            pnc, code = predicted(self.network, batch.crops, self.settings.bfloat16)
            error, rotation = _symmetric_errors(pnc, batch, self._symmetries[mesh])
            errors.append(error)
            rotations.append(rotation)
            if self._codes is not None:
                shape.append((torch.cdist(code, self._codes).argmin(1) == mesh).float())
            else:
                points, distances = self._drawn(part, (256, 256, 0), part)
                decoded = self.network.decoder.sdf(points, code)
                shape.append((decoded - distances).abs().mean(1) * 1e3)
        self.network.train()
        return torch.cat(errors) * 1e3, torch.rad2deg(torch.cat(rotations)), torch.cat(shape)

    def batch(
        self,
        indices: NDArray[np.int64],
        augment: AugmentSettings,
        seeds: Sequence[int] | None = None,
    ) -> tuple[TrainingBatch, Tensor]:
        """Views of stored crops and their mesh indices (B,).

        Args:
            indices: numbers of the crops.
            augment: how the views differ from the crops.
            seeds: of the views, one a crop; None: the crops' numbers.
        """
        device = self._processes.device
        stored = self.crops.batch(indices)
        side = self.settings.crop_px or self.network.crop_size
        batch = augmented(
            stored_views(stored, self.network.sees_geometry, device),
            side,
            side // self.network.config.pnc_stride,
            augment,
            Draws(indices if seeds is None else seeds, device),
        )
        return batch, torch.from_numpy(stored.mesh).to(device)

    def _train_step(self, objective: Callable[..., Losses]) -> Losses:
        settings = self.settings
        indices = self._own_part(self._chosen())
        seeds = np.random.SeedSequence([self._seed, self.step]).generate_state(settings.batch)
        seeds = self._own_part(seeds)
        batch, mesh = self.batch(indices, settings.augment, seeds)
        samples = None
        if settings.sdf is not None:
            sdf = settings.sdf
            counts = (sdf.surface_points, sdf.near_points, sdf.volume_points)
            samples = self._drawn(indices, counts, seeds)
        losses = objective(batch, mesh, samples)
        self._optimiser.zero_grad(set_to_none=True)
        losses.total.backward()
        if settings.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip_norm)
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(self.step, self.steps, settings)
        self._optimiser.step()
        self._average.update(self.step)
        return losses

    def _chosen(self) -> NDArray[np.int64]:
        """The crops of this step's batch: every epoch goes through all of them in a new order."""
        trained = self.split.trained
        a_pass = len(trained) // self.settings.batch
        epoch, number = divmod(self.step, a_pass)
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = epoch, np.random.default_rng([self._seed, epoch]).permutation(trained)
        return self._epoch[1][number * self.settings.batch :][: self.settings.batch]

    def _own_part(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        size = self._processes.share(len(values))
        return values[self._processes.rank * size :][:size]

    def _drawn(
        self, indices: NDArray[np.int64], counts: tuple[int, int, int], seeds: Sequence[int]
    ) -> SdfSamples:
        """Points around the objects of crops, at the objects' sizes."""
        mesh = torch.from_numpy(self.crops.mesh[indices])
        scale = torch.from_numpy(self.crops.scale[indices])[:, None]
        points, distances = drawn(self._samples, mesh, counts, seeds)
        device = self._processes.device
        return SdfSamples((scale[..., None] * points).to(device), (scale * distances).to(device))

    def _made_with(self) -> dict[str, Any]:
        """Return what the weights depend on, as JSON values except for tuples."""
        return {
            "settings": asdict(self.settings),
            "seed": self._seed,
            "crops": len(self.crops),
            "meshes": len(self._symmetries),
        }

    def _resume(self) -> None:
        device = self._processes.device
        state = torch.load(self._state_path, map_location=device, weights_only=True)
        own = json.loads(json.dumps(self._made_with()))
        there = json.loads(state.get("made_with", "{}"))
        if "settings" in there:
            there["settings"] = continued(there["settings"], own["settings"])
        differing = differences(there, own)
        if differing:
            raise RecipeError(
                f"{self._state_path}: holds another training, which differs in {differing}:"
                " name another folder, or remove it"
            )
        self.network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._average.load(state["average"])
        self.step = state["step"]


def _symmetric_errors(
    pnc: Tensor, batch: TrainingBatch, symmetries: Tensor
) -> tuple[Tensor, Tensor]:
    """Errors (B,) of coordinates in metres and of rotation in radians, at the best symmetry."""
    errors, rotations = [], []
    for T in symmetries.unbind(1):
        target = (T[:, :3, :3] @ batch.pnc.flatten(2) + T[:, :3, 3:]).view_as(batch.pnc)
        errors.append(coordinate_errors(pnc, target, batch.mask))
        rotations.append(rotation_errors(pnc, target, batch.mask))
    error, best = torch.stack(errors).min(0)
    return error, torch.stack(rotations).gather(0, best[None])[0]
