#!/usr/bin/env python3
"""How often objects are taken for one another, by the network alone and after the corrector.

    python -m crisp_ros.studies.shape_confusions --models DIR --objects 19,20,... --json FILE

Renders scattered objects, estimates them and counts the names; see crisp_ros/evaluation/confusions.
"""

from __future__ import annotations

import argparse
import sys
from itertools import combinations
from pathlib import Path

import numpy as np

from crisp_ros.cli.options import add_models_option, checkpoint_path, count, progress
from crisp_ros.data.atomic_file import write_json
from crisp_ros.data.bop import read_models
from crisp_ros.data.meshes import surface_samples
from crisp_ros.evaluation.metrics import chamfer
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.network.checkpoint import load_model
from crisp_ros.pipeline import Estimator
from crisp_ros.studies.shape_confusions import confusion_rows, namings
from crisp_ros.synthesis.scattered_frames import DOMAINS, scattered_frames
from crisp_ros.synthesis.scenes import load_observed_poses, viewpoints

_POINTS = 4000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_models_option(parser)
    parser.add_argument("--objects", help="ids of those shown, such as 19,20 (default: all)")
    parser.add_argument("--observed-poses", type=Path, help="to draw likely viewpoints from")
    parser.add_argument("--checkpoint", type=Path, help="model file (default: the package's)")
    parser.add_argument("--frames", type=count, default=30, help="number (default: 30)")
    parser.add_argument("--seed", type=int, default=31, help="of the frames (default: 31)")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    models = read_models(args.models)
    chosen = [int(i) for i in args.objects.split(",")] if args.objects else list(models)
    meshes = {i: models[i].mesh for i in chosen}
    observed = load_observed_poses(args.observed_poses) if args.observed_poses else {}
    views = [viewpoints(mesh, observed.get(i)) for i, mesh in meshes.items()]
    estimator = Estimator(load_model(checkpoint_path(args.checkpoint)))
    with progress("frames") as on_frame:
        frames = scattered_frames(meshes, views, DOMAINS["day"], args.frames, args.seed, on_frame)
        rows = confusion_rows(namings(estimator, frames, {i: models[i].name for i in chosen}))
    points = {
        i: surface_samples(mesh, _POINTS, np.random.default_rng(0)).points
        for i, mesh in meshes.items()
    }
    figures = {
        "frames": args.frames,
        "rows": rows,
        "chamfer_mm": {
            f"{models[a].name}, {models[b].name}": 1e3 * chamfer(points[a], points[b])
            for a, b in combinations(chosen, 2)
        },
        "model_version": estimator.model_version,
    }
    command = " ".join(["python -m crisp_ros.studies.shape_confusions", *sys.argv[1:]])
    write_json(args.json, {**provenance(command), **figures})


if __name__ == "__main__":
    main()
