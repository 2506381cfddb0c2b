"""Training and evaluation of a model for three toys that are in no data set.

    python -m crisp_ros.studies.own_objects --work /tmp/own --json docs/results/own_objects.json

It runs the commands of docs/own_objects.md; an interrupted run is continued.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from crisp_ros.data.atomic_file import write_json
from crisp_ros.data.bop import BopDataset
from crisp_ros.data.bop_writer import write_models
from crisp_ros.evaluation.bop_evaluation import evaluate_bop
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.network.checkpoint import load_model
from crisp_ros.pipeline import Estimator
from crisp_ros.share import checkpoint_path, share_directory
from crisp_ros.synthesis.toys import toys

_FILES = {"hammer": "hammer.obj", "house": "house.ply", "rocket": "rocket.glb"}
_MILLIMETRES = "house"  # one file has another unit, as folders of meshes do
_TEST_SEED = 20


def write_meshes(folder: Path) -> None:
    """Write three meshes in three formats, one of them in millimetres, one with a hole."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, mesh in toys().items():
        if name == _MILLIMETRES:
            mesh.apply_scale(1000.0)
        if name == "hammer":
            mesh.update_faces(np.arange(len(mesh.faces)) != len(mesh.faces) // 2)
        mesh.export(folder / _FILES[name])


def write_test_set(folder: Path, model: Path, scenes: int, views: int) -> None:
    """Render the meshes, in the model's object frames, on tables that are new to it."""
    if (folder / "test").is_dir():
        return
    meshes = {}
    for index, mesh in enumerate(load_model(model).header["data"]["meshes"], start=1):
        look = toys()[mesh["name"]]
        look.apply_translation(mesh["origin_in_object_frame_m"])
        meshes[index] = (mesh["name"], look)
    write_models(
        folder,
        {i: look for i, (_, look) in meshes.items()},
        {i: {"name": name} for i, (name, _) in meshes.items()},
    )
    _crisp("render", "tables", "--models", folder / "models", "--output", folder,
           "--scenes", scenes, "--views", views, "--seed", _TEST_SEED)  # fmt: skip


def evaluated(model: Path, test_set: Path) -> dict[str, Any]:
    """Measure the model on the test set, as JSON values."""
    loaded, dataset = load_model(model), BopDataset(test_set)
    header = loaded.header
    evaluation = evaluate_bop(Estimator(loaded), dataset)
    names = {i: m.name for i, m in dataset.models.items()}
    errors = {
        name: [i.add_s_m for i in evaluation.instances if names[i.obj_id] == name]
        for name in names.values()
    }
    return {
        "training_processor_s": sum(s["processor"] for s in header["seconds"].values()),
        "training_s": header["seconds"],
        "figures": header["figures"],
        "test_images": len(dataset.images),
        "instances": len(evaluation.instances),
        "auc_add_s": evaluation.auc_add_s,
        "auc_e_shape": evaluation.auc_e_shape,
        "baseline_auc_add_s": evaluation.baseline_auc_add_s,
        "certified_share": evaluation.certified_share,
        "median_add_s_m": {name: float(np.median(values)) for name, values in errors.items()},
        "recipe": header["recipe"],
    }


def _crisp(*words: object) -> None:
    command = [sys.executable, "-m", "crisp_ros.cli", *map(str, words)]
    subprocess.run(command, check=True)


def main() -> None:
    recipe = share_directory() / "config" / "training" / "own_objects.yaml"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for all files")
    parser.add_argument("--recipe", type=Path, default=recipe)
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    write_meshes(args.work / "meshes")
    model = args.work / "own.safetensors"
    if not model.exists():
        _crisp("train", "--models", args.work / "meshes", "--recipe", args.recipe, "--run",
               args.work / "run", "--from", checkpoint_path(), "--output", model)  # fmt: skip
    write_test_set(args.work / "test_set", model, args.scenes, args.views)
    figures = evaluated(model, args.work / "test_set")
    Console().print_json(data={k: v for k, v in figures.items() if k != "recipe"})
    if args.json:
        command = " ".join(["python -m crisp_ros.studies.own_objects", *sys.argv[1:]])
        write_json(args.json, {**provenance(command), **figures})


if __name__ == "__main__":
    main()
