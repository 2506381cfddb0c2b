"""`crisp self-train`: a model learns from its own certified estimates of recorded frames."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from crisp_ros.adaptation.recorded_self_training import Kept, RecordedSelfTraining
from crisp_ros.adaptation.reference_set import load_reference, reference_path
from crisp_ros.adaptation.self_trainer import SelfTrainingSettings
from crisp_ros.cli.options import (
    LEFT_OUT,
    OptionError,
    add_json_option,
    add_model_options,
    count,
    output_file,
)
from crisp_ros.correction.corrector import CorrectorSettings
from crisp_ros.data.atomic_file import write_json
from crisp_ros.data.bop import BopDataset
from crisp_ros.data.recorded_frame import RecordedFrame, bop_frames, left_out_text
from crisp_ros.data.recording import Recording
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.evaluation.self_training_comparison import (
    Comparison,
    Results,
    load_results,
    measure,
    save_results,
)
from crisp_ros.evaluation.true_shapes import (
    SHAPES_NAME,
    ModelShapes,
    TrueShape,
    load_shapes,
)
from crisp_ros.network.checkpoint import Model, load_model, save_model
from crisp_ros.observation.frame import Frame
from crisp_ros.observation.observe import ObservationSettings
from crisp_ros.pipeline import Estimator, EstimatorSettings, model_version
from crisp_ros.progress import progress
from crisp_ros.reports.self_training_page import self_training_page
from crisp_ros.share import checkpoint_path
from crisp_ros.studies.resumable_parts import fingerprint

CORRECTORS = {
    "1": CorrectorSettings(solver="gradient", shape="projected_gradient"),
    "2": CorrectorSettings(),
}
_TRUTH_POINTS = 1500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--bop", type=Path, metavar="DIR", help="a data set in BOP layout")
    source.add_argument(
        "--bag", type=Path, metavar="PATH", help="a rosbag2 recording of an RGB-D camera"
    )
    parser.add_argument("--split", default="test", help="split of the BOP data set (default: test)")
    parser.add_argument(
        "--check",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a data set in BOP layout to evaluate before and after, not used for training;"
        " can be repeated",
    )
    parser.add_argument(
        "--algorithm",
        choices=CORRECTORS,
        default="2",
        help="corrector of the pseudo-labels: 1, gradient steps; 2, the library (default: 2)",
    )
    parser.add_argument(
        "--passes", type=count, default=3, help="passes over all frames (default: 3)"
    )
    parser.add_argument(
        "--run",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for the state, from which an interrupted run continues",
    )
    parser.add_argument(
        "--output", type=output_file, metavar="FILE", help="write the trained model to this file"
    )
    parser.add_argument("--html", type=output_file, metavar="FILE", help="write an HTML report")
    add_model_options(parser)
    add_json_option(parser)


@dataclass(frozen=True)
class _Source:
    """Frames that can be read again, and the true shapes by name as far as known.

    `key` is fit for a file's name and distinct for different frames.
    """

    name: str
    key: str
    frames: Callable[[], Iterator[RecordedFrame]]
    count: int
    shapes: Any
    left_out: bool = False  # whether a part of the recording cannot be used


def run(args: argparse.Namespace) -> int | None:
    source = _source(args)
    checks = [_bop(folder, "test") for folder in args.check]
    names = [one.name for one in checks]
    if len({source.name, *names}) <= len(names):
        raise OptionError(f"--check: the folders need different names, not {', '.join(names)}")
    path = checkpoint_path(args.checkpoint)
    model = load_model(path, args.device)
    reference = load_reference(reference_path(path), model)
    settings = EstimatorSettings(
        observation=ObservationSettings(seed=args.seed), corrector=CORRECTORS[args.algorithm]
    )
    args.run.mkdir(parents=True, exist_ok=True)
    _check_same_run(args, model.header["sha256"])

    def results(source: _Source, model: Model, passes: int) -> Results:
        return _measured(passes, model, settings, source, args.run)

    before = [results(one, model, 0) for one in (source, *checks)]
    training = RecordedSelfTraining(
        load_model(path, args.device),
        reference,
        SelfTrainingSettings(seed=args.seed),
        settings,
        args.run,
        args.device,
    )

    def frames():
        return (Frame.from_recorded(frame) for frame in source.frames())

    with progress("learning") as on_frame:
        training.run(frames, source.count, args.passes, on_frame)
    kept = training.kept(
        model, args.passes, lambda model, passes: results(source, model, passes).certified_share
    )
    after = [results(one, kept.model, kept.passes) for one in (source, *checks)]
    if args.output:
        save_model(args.output, kept.model, torch.float32)  # what was measured, to the last bit
    compared = [Comparison(*pair) for pair in zip(before, after, strict=True)]
    held_out = dict(zip(names, compared[1:], strict=True))
    learned = training.model().header["self_training"]
    _report(args, compared[0], held_out, kept, learned)
    return LEFT_OUT if source.left_out else None


def _source(args: argparse.Namespace) -> _Source:
    if args.bop:
        return _bop(args.bop, args.split)
    recording = Recording(args.bag)
    total = sum(1 for _ in recording.frames())
    if recording.left_out:
        warning = f"{args.bag}: {left_out_text(recording.left_out)}"
        Console(stderr=True).print(warning, highlight=False, soft_wrap=True, markup=False)
    shapes: dict[str, TrueShape] = {}
    folder = args.bag if args.bag.is_dir() else args.bag.parent
    if (folder / SHAPES_NAME).is_file():
        shapes = load_shapes(folder / SHAPES_NAME)
    key = fingerprint(str(args.bag.resolve()))
    left_out = bool(recording.left_out)
    return _Source(args.bag.name, key, recording.frames, total, shapes, left_out)


def _bop(folder: Path, split: str) -> _Source:
    dataset = BopDataset(folder, split)
    shapes = ModelShapes(dataset.models.values(), _TRUTH_POINTS)
    key = fingerprint(str(folder.resolve()), split)
    return _Source(folder.name, key, lambda: bop_frames(dataset), len(dataset.images), shapes)


def _check_same_run(args: argparse.Namespace, checkpoint_sha256: str) -> None:
    """Refuse to continue a run that began with something else."""
    settings = {
        "source": str((args.bop or args.bag).resolve()),
        "split": args.split if args.bop else None,
        "checkpoint": checkpoint_sha256,
        "algorithm": args.algorithm,
        "seed": args.seed,
    }
    path = args.run / "run.json"
    if path.is_file() and json.loads(path.read_text()) != settings:
        raise OptionError(f"{args.run} holds a run with other options: name another folder")
    write_json(path, settings)


def _measured(
    passes: int, model: Model, settings: EstimatorSettings, source: _Source, run: Path
) -> Results:
    """Results from the run's folder, made and written where they are not there."""
    when = f"after {passes} passes" if passes else "before"
    path = run / f"{when.replace(' ', '_')}.{source.name}.{source.key}.json"
    if path.is_file():
        return load_results(path)
    estimator = Estimator(model, settings, model.library.codes.device)
    with progress(f"measuring {when}, {source.name}") as on_frame:
        results = measure(
            estimator,
            source.frames(),
            source.shapes,
            lambda done: on_frame(done, source.count),
        )
    save_results(path, results)
    return results


def _report(
    args: argparse.Namespace,
    compared: Comparison,
    held_out: dict[str, Comparison],
    kept: Kept,
    learned: dict[str, Any],
) -> None:
    broken = ", ".join(f"{name} {n}" for name, n in learned["broken"].items())
    summary = (
        f"{compared.summary}; {learned['steps']} steps, {learned['swaps']} swaps, "
        f"{learned['refused']} refused ({broken}); {_choice(kept)}"
    )
    console = Console()
    console.print(summary, highlight=False, soft_wrap=True)
    for name, one in held_out.items():
        console.print(f"not learned from, {name}: {one.summary}", highlight=False, soft_wrap=True)
    origin = provenance(args.command_line, args.device)
    if args.html:
        lead = f"Algorithm {args.algorithm}, {args.passes} passes: {summary}."
        footer = f"{origin['command']}, version {origin['version']}, {origin['machine']['cpu']}"
        args.html.parent.mkdir(parents=True, exist_ok=True)
        args.html.write_text(self_training_page("Self-training", lead, footer, compared, held_out))
    if args.json:
        figures = {
            "algorithm": args.algorithm,
            "passes": args.passes,
            **compared.to_json(),
            "per_object": {name: compared.of(name).to_json() for name in compared.before.names},
            "held_out": {name: one.to_json() for name, one in held_out.items()},
            "kept_passes": kept.passes,
            "certified_share_after_passes": kept.shares,
            "self_training": learned,
            "model_version": model_version(kept.model),
            **origin,
        }
        write_json(args.json, figures)


def _choice(kept: Kept) -> str:
    """Describe which heads are kept, and why."""
    shares = [f"{100 * share:.1f}" for share in kept.shares.values()]
    which = f"after pass {kept.passes}" if kept.passes else "from before"
    return f"certified from pass to pass {', '.join(shares)} %, so the heads {which} are kept"
