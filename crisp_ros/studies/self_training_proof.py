"""All measurements of docs/self_training.md in one command, for the shipped or a new model.

    python -m crisp_ros.studies.self_training_proof --models DIR --observed-poses NPZ --work DIR

It renders dusk frames, self-trains on them with two correctors, self-trains on wrong data, times
the estimation during self-training, and compares metric with normalised coordinates. It takes hours
on two cores; results that are in the work folder are kept.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from crisp_ros.correction.corrector_settings import CORRECTORS

SEEDS = (51, 52, 53)
FRAMES = 48  # at least 300 objects
HELD_OUT_SEED, HELD_OUT_FRAMES = 61, 24
USED_CORRECTORS = ("alg1", "second_order")
PARTS = ("gap", "safety", "latency", "coordinates")


@dataclass(frozen=True)
class SelfTrainingProof:
    """The measurements, each a command that runs in the work folder.

    Reports then name no path of this machine.

    Attributes:
        work: folder for all files.
        models: of the objects, in the BOP layout.
        observed_poses: of real scenes.
        real: real frames to measure on, in the BOP layout, or None.
        seeds: of the frames to learn from.
        correctors: of the pseudo-labels.
    """

    work: Path
    models: Path
    observed_poses: Path
    real: Path | None
    seeds: tuple[int, ...] = SEEDS
    correctors: tuple[str, ...] = USED_CORRECTORS

    def gap(self) -> None:
        """Measure the domain gap before and after self-training."""
        checks = ["--check", self._dusk(HELD_OUT_SEED, HELD_OUT_FRAMES)]
        if self.real:
            checks += ["--check", self._linked("real", self.real)]
        reports = []
        for corrector in self.correctors:
            for seed in self.seeds:
                name = f"{seed}_{corrector}"
                reports.append(f"gap_{name}.json")
                if (self.work / reports[-1]).exists():
                    continue
                self._run("cli", "self-train", "--bop", self._dusk(seed, FRAMES), *checks,
                          "--corrector", corrector, "--seed", seed, "--run", f"run_{name}",
                          "--html", f"gap_{name}.html", "--json", reports[-1])  # fmt: skip
        self._study("self_training_summary", "--gap", *reports, "--json", "self_training.json")

    def safety(self) -> None:
        """Measure the effect of wrong data."""
        models = self._linked("models", self.models)
        self._study("self_training_safety", "--models", models, "--work", "safety",
                    "--json", "self_training_safety.json")  # fmt: skip

    def latency(self) -> None:
        """Measure the estimation's latency during self-training."""
        if not (self.work / "self_training_latency.json").exists():
            self._study("self_training_latency", "--json", "self_training_latency.json")

    def coordinates(self) -> None:
        """Compare metric with normalised coordinates."""
        self._run("cli", "ablate", "coordinates", *self._sources(), "--work", "coordinates",
                  "--png", "coordinates.png", "--json", "ablation_coordinates.json")  # fmt: skip

    def _dusk(self, seed: int, frames: int) -> str:
        """The name of a folder of dusk frames, rendered if it is not there."""
        folder = f"dusk_{seed}"
        if not (self.work / folder / "done").exists():
            shutil.rmtree(self.work / folder, ignore_errors=True)
            self._run("cli", "render", "scattered", *self._sources(), "--domain", "dusk",
                      "--frames", frames, "--seed", seed, "--output", folder)  # fmt: skip
            (self.work / folder / "done").touch()
        return folder

    def _sources(self) -> list[str]:
        models = self._linked("models", self.models)
        poses = self._linked("observed_poses.npz", self.observed_poses)
        return ["--models", models, "--observed-poses", poses]

    def _linked(self, name: str, target: Path) -> str:
        """The name of a link in the work folder to a file or folder."""
        link = self.work / name
        if not link.exists():
            link.symlink_to(target.resolve())
        return name

    def _study(self, name: str, *words: object) -> None:
        self._run(f"studies.{name}", *words)

    def _run(self, module: str, *words: object) -> None:
        command = [sys.executable, "-m", f"crisp_ros.{module}", *map(str, words)]
        subprocess.run(command, check=True, cwd=self.work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, required=True, help="in the BOP layout")
    parser.add_argument("--observed-poses", type=Path, required=True, help="of real scenes, NPZ")
    parser.add_argument("--real", type=Path, help="real frames in the BOP layout, to measure on")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument(
        "--correctors", choices=tuple(CORRECTORS), nargs="+", default=USED_CORRECTORS
    )
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--results", type=Path, help="also copy the JSON files to this folder")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    proof = SelfTrainingProof(
        args.work,
        args.models,
        args.observed_poses,
        args.real,
        tuple(args.seeds),
        tuple(args.correctors),
    )
    for part in args.only:
        getattr(proof, part)()
    if args.results:
        for pattern in ("self_training*.json", "ablation_coordinates.json"):
            for path in args.work.glob(pattern):
                shutil.copy(path, args.results / path.name)


if __name__ == "__main__":
    main()
