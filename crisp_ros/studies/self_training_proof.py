"""Measurements of docs/self_training.md for a model, with one command.

    python -m crisp_ros.studies.self_training_proof --models DIR --observed-poses NPZ --work DIR

It renders dusk frames, lets the model learn from them by both algorithms, feeds it wrong data,
times estimation during training and compares metric with normalised coordinates. Hours on two
cores; parts whose results lie in the work folder are not made again.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

SEEDS = (51, 52, 53)
FRAMES = 48  # at least 300 objects
HELD_OUT_SEED, HELD_OUT_FRAMES = 61, 24
ALGORITHMS = ("2", "1")
PARTS = ("gap", "safety", "latency", "coordinates")


def crisp(work: Path, *words: object) -> None:
    """Run a subcommand in the work folder, so that reports name no path of this machine."""
    command = [sys.executable, "-m", "crisp_ros.cli", *map(str, words)]
    subprocess.run(command, check=True, cwd=work)


def study(work: Path, name: str, *words: object) -> None:
    """Run a module of this room in the work folder."""
    command = [sys.executable, "-m", f"crisp_ros.studies.{name}", *map(str, words)]
    subprocess.run(command, check=True, cwd=work)


def linked(work: Path, name: str, target: Path) -> str:
    """The name under which a file or folder is found in the work folder."""
    link = work / name
    if not link.exists():
        link.symlink_to(target.resolve())
    return name


def rendered(work: Path, args: argparse.Namespace, seed: int, frames: int) -> str:
    folder = f"dusk_{seed}"
    if not (work / folder / "done").exists():
        shutil.rmtree(work / folder, ignore_errors=True)
        crisp(work, "render", "scattered", *sources(work, args), "--domain", "dusk",
              "--frames", frames, "--seed", seed, "--output", folder)  # fmt: skip
        (work / folder / "done").touch()
    return folder


def sources(work: Path, args: argparse.Namespace) -> list[str]:
    models = linked(work, "models", args.models)
    poses = linked(work, "observed_poses.npz", args.observed_poses)
    return ["--models", models, "--observed-poses", poses]


def gap(work: Path, args: argparse.Namespace) -> None:
    checks = ["--check", rendered(work, args, HELD_OUT_SEED, HELD_OUT_FRAMES)]
    if args.real:
        checks += ["--check", linked(work, "real", args.real)]
    reports = []
    for algorithm in args.algorithms:
        for seed in args.seeds:
            name = f"{seed}_{algorithm}"
            reports.append(f"gap_{name}.json")
            if (work / reports[-1]).exists():
                continue
            crisp(work, "self-train", "--bop", rendered(work, args, seed, FRAMES), *checks,
                  "--algorithm", algorithm, "--seed", seed, "--run", f"run_{name}",
                  "--html", f"gap_{name}.html", "--json", reports[-1])  # fmt: skip
    study(work, "self_training_summary", "--gap", *reports, "--json", "self_training.json")


def safety(work: Path, args: argparse.Namespace) -> None:
    models = linked(work, "models", args.models)
    study(work, "self_training_safety", "--models", models, "--work", "safety",
           "--json", "self_training_safety.json")  # fmt: skip


def latency(work: Path, args: argparse.Namespace) -> None:
    if not (work / "self_training_latency.json").exists():
        study(work, "self_training_latency", "--json", "self_training_latency.json")


def coordinates(work: Path, args: argparse.Namespace) -> None:
    crisp(work, "ablate", "coordinates", *sources(work, args), "--work", "coordinates",
          "--png", "coordinates.png", "--json", "ablation_coordinates.json")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, required=True, help="in the BOP layout")
    parser.add_argument("--observed-poses", type=Path, required=True, help="of real scenes, NPZ")
    parser.add_argument("--real", type=Path, help="real frames in the BOP layout, to measure on")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--algorithms", choices=ALGORITHMS, nargs="+", default=ALGORITHMS)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--results", type=Path, help="also copy the JSON files to this folder")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    made = {"gap": gap, "safety": safety, "latency": latency, "coordinates": coordinates}
    for part in args.only:
        made[part](args.work, args)
    if args.results:
        for pattern in ("self_training*.json", "ablation_coordinates.json"):
            for path in args.work.glob(pattern):
                shutil.copy(path, args.results / path.name)


if __name__ == "__main__":
    main()
