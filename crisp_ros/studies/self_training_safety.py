"""Self-training on wrong data: does the guard keep the model's accuracy?

    python -m crisp_ros.studies.self_training_safety --models DIR --work DIR --json FILE

There are four kinds of frames: black images; boxes instead of masks; objects that are not in the
library (for these three every estimate counts as certified, the worst possible certificate); and
poisoned ones, with a certificate threshold that is ten times as large. An interrupted run continues
with the next kind.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from rich.console import Console

from crisp_ros.adaptation.guard import Guard, Verdict
from crisp_ros.adaptation.learner import Learner, learner_settings
from crisp_ros.adaptation.reference_set import ReferenceSet, load_reference, reference_path
from crisp_ros.adaptation.samples import Sample, samples_of
from crisp_ros.adaptation.self_trainer import SelfTrainer, SelfTrainingSettings
from crisp_ros.correction.certificate import CertificateSettings
from crisp_ros.data.atomic_file import write_json
from crisp_ros.data.bop import BopFrame, read_models
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.network.checkpoint import Model, load_model
from crisp_ros.observation.frame import Frame
from crisp_ros.pipeline import Estimator, EstimatorSettings
from crisp_ros.progress import progress
from crisp_ros.share import checkpoint_path
from crisp_ros.studies.resumable_parts import KeptParts
from crisp_ros.synthesis.scattered_frames import DOMAINS, scattered_frames
from crisp_ros.synthesis.scenes import viewpoints

KINDS = ("black", "masks", "objects", "poisoned")
_SOLIDS = 12
_BOXES = 7  # that replace the masks of a frame


def unknown_objects(rng: np.random.Generator) -> dict[int, trimesh.Trimesh]:
    """Create coloured solids that are in no library, by id."""
    solids = {}
    for index in range(_SOLIDS):
        size = rng.uniform(0.03, 0.09, 3)
        solid = (
            trimesh.creation.torus(size.max(), size.min() / 2),
            trimesh.creation.cone(size[0], 2 * size[1]),
            trimesh.creation.icosphere(2, 1.0).apply_scale(size),
        )[index % 3]
        colours = rng.integers(0, 256, 3) + rng.normal(0.0, 25.0, (len(solid.vertices), 3))
        solid.visual.vertex_colors = np.clip(colours, 0, 255).astype(np.uint8)
        solids[index + 1] = solid
    return solids


def wrong_frames(kind: str, models: Path, count: int, seed: int) -> Iterator[Frame]:
    """Render wrong frames; those for "poisoned" are right, in another light.

    Args:
        kind: one of `KINDS`.
        models: of the known objects, in the BOP layout.
        count: number of frames.
        seed: of all random choices.
    """
    rng = np.random.default_rng(seed)
    if kind == "objects":
        meshes = unknown_objects(rng)
    else:
        meshes = {obj_id: model.mesh for obj_id, model in read_models(models).items()}
    views = [viewpoints(mesh) for mesh in meshes.values()]
    domain = DOMAINS["dusk" if kind == "poisoned" else "day"]
    for frame in scattered_frames(meshes, views, domain, count, seed):
        yield corrupted(kind, frame, rng)


def corrupted(kind: str, frame: BopFrame, rng: np.random.Generator) -> Frame:
    """Corrupt a frame: black images, or boxes instead of masks; other kinds are unchanged."""
    height, width = frame.depth.shape
    rgb, labels = frame.rgb, frame.labels
    if kind == "black":
        rgb = np.zeros_like(rgb)
    elif kind == "masks":
        labels = np.zeros_like(labels)
        for label in range(1, _BOXES + 1):
            side = rng.integers(40, 160, 2)
            v, u = rng.integers(0, height - 40), rng.integers(0, width - 40)
            labels[v : v + side[0], u : u + side[1]] = label
    return Frame.from_recorded(replace(frame, rgb=rgb, labels=labels))


@dataclass(frozen=True)
class SafetyStudy:
    """A model that self-trains on nothing but wrong frames.

    Attributes:
        model: the original one.
        reference: its reference set.
        models: of the known objects, in the BOP layout.
        frames: number of different frames.
        steps: of self-training.
        seed: of the frames.
    """

    model: Model
    reference: ReferenceSet
    models: Path
    frames: int
    steps: int
    seed: int

    def run(self, kind: str) -> dict[str, Any]:
        """Self-train on one kind of frames and measure the accuracy, as JSON values."""
        seen = self._samples(kind)
        device = torch.device("cpu")
        trainer = SelfTrainer(
            self.model, self.reference, SelfTrainingSettings(), device, lambda *_: None
        )
        with progress(f"steps, {kind}") as on_step:
            verdicts = self._trained(trainer, seen, on_step)
        learner = Learner(self.model.network, learner_settings(self.model.network.config.design))
        learner.load(trainer.weights)
        accuracy = Guard(self.model, self.reference, device).accuracy(learner)
        certified = [s.certified for samples in seen for s in samples]
        status = trainer.status
        return {
            "objects": len(certified),
            "counted_as_certified": sum(certified),
            "steps": status.steps,
            "swaps": status.swaps,
            "swaps_halfway": status.halved,
            "refused": status.refused,
            "broken": status.broken,
            "accuracy_before": self.reference.original._asdict(),
            "accuracy_after": accuracy._asdict(),
            "candidates": [
                {"step": step, "accepted": v.accepted, "reason": v.reason, **v.accuracy._asdict()}
                for step, v in verdicts
            ],
        }

    def _samples(self, kind: str) -> list[list[Sample]]:
        """The samples of each frame, with the wrong certificates."""
        certificate, visibility = CertificateSettings(), EstimatorSettings().visibility
        if kind == "poisoned":
            certificate = replace(certificate, threshold_m=10 * certificate.threshold_m)
            visibility = None
        settings = EstimatorSettings(certificate=certificate, visibility=visibility)
        estimator = Estimator(self.model, settings)
        seen = []
        for frame in wrong_frames(kind, self.models, self.frames, self.seed):
            trace = estimator.trace(frame)
            keys = {e.label: str(e.label) for e in trace.estimate.objects}
            samples = samples_of(trace.solutions, keys)
            if kind != "poisoned":
                samples = [replace(sample, certified=True) for sample in samples]
            seen.append(samples)
        return seen

    def _trained(
        self, trainer: SelfTrainer, seen: list[list[Sample]], on_step: Any
    ) -> list[tuple[int, Verdict]]:
        """Self-train; the guard's verdicts with their steps."""
        verdicts: list[tuple[int, Verdict]] = []
        iteration = 0
        while trainer.status.steps < self.steps:
            # The samples count as estimated by the current heads: the rollback must not help.
            trainer.observe(seen[iteration % len(seen)], trainer.status.version)
            iteration += 1
            steps = trainer.status.steps
            while steps < self.steps and trainer.work():
                if trainer.status.steps > steps:
                    steps = trainer.status.steps
                    on_step(steps, self.steps)
                verdict = trainer.status.verdict
                if verdict is not None and (not verdicts or verdict is not verdicts[-1][1]):
                    verdicts.append((steps, verdict))
        trainer.finish()
        return verdicts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, required=True, help="in the BOP layout")
    parser.add_argument("--only", choices=KINDS, nargs="+", default=KINDS, help="of these frames")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--work", type=Path, required=True, help="keeps results, so that a run can be continued"
    )
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    path = checkpoint_path()
    model = load_model(path)
    reference = load_reference(reference_path(path), model)
    study = SafetyStudy(model, reference, args.models, args.frames, args.steps, args.seed)
    kept = KeptParts(args.work, (model.header["sha256"], args.steps, args.frames, args.seed))
    kinds = {k: kept.part(k, partial(study.run, k)) for k in KINDS if k in args.only}
    console = Console(highlight=False)
    for kind, found in kinds.items():
        before, after = found["accuracy_before"], found["accuracy_after"]
        changes = ", ".join(f"{name} {before[name]:.3f} -> {after[name]:.3f}" for name in before)
        console.print(
            f"{kind}: {found['steps']} steps, {found['swaps']} swaps; reference set: {changes}"
        )
    command = " ".join(["python -m crisp_ros.studies.self_training_safety", *sys.argv[1:]])
    write_json(args.json, {"kinds": kinds, **provenance(command)})


if __name__ == "__main__":
    main()
