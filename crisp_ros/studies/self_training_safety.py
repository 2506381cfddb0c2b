"""Self-training on wrong data: test of the guard.

    python -m crisp_ros.studies.self_training_safety --models DIR --work DIR --json FILE

Four kinds of frames. black, black images; masks, boxes in place of masks; objects, shapes that are
not in the library (in these three everything counts as certified: the
worst that a certificate can do); poisoned, the certificate's threshold ten times as large. A run
that was ended goes on with the next kind.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh

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


def other_objects(rng: np.random.Generator) -> dict[int, trimesh.Trimesh]:
    """Twelve coloured solids that no library knows."""
    made = {}
    for index in range(12):
        size = rng.uniform(0.03, 0.09, 3)
        solid = (
            trimesh.creation.torus(size.max(), size.min() / 2),
            trimesh.creation.cone(size[0], 2 * size[1]),
            trimesh.creation.icosphere(2, 1.0).apply_scale(size),
        )[index % 3]
        colours = rng.integers(0, 256, 3) + rng.normal(0.0, 25.0, (len(solid.vertices), 3))
        solid.visual.vertex_colors = np.clip(colours, 0, 255).astype(np.uint8)
        made[index + 1] = solid
    return made


def frames(kind: str, models: Path, count: int, seed: int) -> Iterator[Frame]:
    """The wrong frames, and for "poisoned" right ones of another light."""
    rng = np.random.default_rng(seed)
    if kind == "objects":
        meshes = other_objects(rng)
    else:
        meshes = {obj_id: model.mesh for obj_id, model in read_models(models).items()}
    views = [viewpoints(mesh) for mesh in meshes.values()]
    domain = DOMAINS["dusk" if kind == "poisoned" else "day"]
    for frame in scattered_frames(meshes, views, domain, count, seed):
        yield spoiled(kind, frame, rng)


def spoiled(kind: str, frame: BopFrame, rng: np.random.Generator) -> Frame:
    height, width = frame.depth.shape
    rgb, labels = frame.rgb, frame.labels
    if kind == "black":
        rgb = np.zeros_like(rgb)
    elif kind == "masks":
        labels = np.zeros_like(labels)
        for label in range(1, 8):
            side = rng.integers(40, 160, 2)
            v, u = rng.integers(0, height - 40), rng.integers(0, width - 40)
            labels[v : v + side[0], u : u + side[1]] = label
    return Frame.from_recorded(replace(frame, rgb=rgb, labels=labels))


def fed(kind: str, model: Model, reference: ReferenceSet, args: argparse.Namespace) -> Any:
    """Figures of a self-training that saw nothing but these frames, JSON values."""
    certificate, visibility = CertificateSettings(), EstimatorSettings().visibility
    if kind == "poisoned":
        certificate = replace(certificate, threshold_m=10 * certificate.threshold_m)
        visibility = None
    settings = EstimatorSettings(certificate=certificate, visibility=visibility)
    estimator = Estimator(model, settings)
    seen: list[list[Sample]] = []
    for frame in frames(kind, args.models, args.frames, args.seed):
        trace = estimator.trace(frame)
        keys = {e.label: str(e.label) for e in trace.estimate.objects}
        found = samples_of(trace.solutions, keys)
        if kind != "poisoned":
            found = [replace(sample, certified=True) for sample in found]
        seen.append(found)
    certified = [s.certified for samples in seen for s in samples]

    device = torch.device("cpu")
    tested = SelfTrainer(model, reference, SelfTrainingSettings(), device, lambda *_: None)
    verdicts: list[tuple[int, Verdict]] = []
    turn = 0
    with progress(f"steps, {kind}") as on_step:
        while tested.status.steps < args.steps:
            # As if estimated by the heads in use: the watch must not be what saves them.
            tested.observe(seen[turn % len(seen)], tested.status.version)
            turn += 1
            steps = tested.status.steps
            while steps < args.steps and tested.work():
                if tested.status.steps > steps:
                    steps = tested.status.steps
                    on_step(steps, args.steps)
                verdict = tested.status.verdict
                if verdict is not None and (not verdicts or verdict is not verdicts[-1][1]):
                    verdicts.append((steps, verdict))
        tested.finish()
    learner = Learner(model.network, learner_settings(model.network.config.design))
    learner.load(tested.weights)
    accuracy = Guard(model, reference, device).accuracy(learner)
    status = tested.status
    return {
        "objects": len(certified),
        "counted_as_certified": sum(certified),
        "steps": status.steps,
        "swaps": status.swaps,
        "swaps_halfway": status.halved,
        "refused": status.refused,
        "broken": status.broken,
        "accuracy_before": reference.original._asdict(),
        "accuracy_after": accuracy._asdict(),
        "candidates": [
            {"step": step, "accepted": v.accepted, "reason": v.reason, **v.accuracy._asdict()}
            for step, v in verdicts
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, required=True, help="in the BOP layout")
    parser.add_argument("--only", choices=KINDS, nargs="+", default=KINDS, help="of these frames")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--work", type=Path, required=True, help="folder that keeps what is done, to go on later"
    )
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    path = checkpoint_path(None)
    model = load_model(path)
    reference = load_reference(reference_path(path), model)
    kept = KeptParts(args.work, (model.header["sha256"], args.steps, args.frames, args.seed))
    kinds = {
        kind: kept.part(kind, partial(fed, kind, model, reference, args))
        for kind in KINDS
        if kind in args.only
    }
    for kind, found in kinds.items():
        before, after = found["accuracy_before"], found["accuracy_after"]
        changes = ", ".join(f"{name} {before[name]:.3f} -> {after[name]:.3f}" for name in before)
        print(f"{kind}: {found['steps']} steps, {found['swaps']} swaps; reference set: {changes}")
    command = " ".join(["python -m crisp_ros.studies.self_training_safety", *sys.argv[1:]])
    write_json(args.json, {"kinds": kinds, **provenance(command)})


if __name__ == "__main__":
    main()
