"""`crisp ablate corrector`: pose and shape errors by each solver of the corrector, and without."""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path
from typing import Any

import trimesh
from rich.console import Console

from crisp_ros.cli.options import (
    OptionError,
    add_checkpoint_option,
    add_json_option,
    add_models_option,
    count,
    device,
)
from crisp_ros.data.atomic_file import write_json
from crisp_ros.data.bop import BopDataset, read_models
from crisp_ros.data.recorded_frame import bop_frames
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.evaluation.recording_score import ModelShapes
from crisp_ros.network.checkpoint import load_model
from crisp_ros.progress import progress
from crisp_ros.reports.corrector_report import (
    CorrectorParts,
    must_hold,
    report,
    row_table,
    verdict_table,
)
from crisp_ros.share import checkpoint_path
from crisp_ros.studies.corrector_study import CorrectorStudy, Instance
from crisp_ros.studies.corrector_trials import (
    program_trial,
    shape_trial,
    solver_trial,
    z_trials,
)
from crisp_ros.studies.object_views import ObjectViews, ObjectViewSettings, object_views
from crisp_ros.studies.resumable_parts import KeptParts, fingerprint
from crisp_ros.studies.study_scenes import scene_frames, study_scenes

_SHAPE_POINTS = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_models_option(parser)
    parser.add_argument(
        "--bop", type=Path, metavar="DIR", help="data set whose real images are measured as well"
    )
    parser.add_argument(
        "--scenes", type=count, default=3, help="clean ones, and as many disturbed (default: 3)"
    )
    parser.add_argument("--frames", type=count, default=8, help="of each scene (default: 8)")
    parser.add_argument("--objects", type=count, default=7, help="in each scene (default: 7)")
    parser.add_argument(
        "--views", type=count, default=2, help="of each object in the trials (default: 2)"
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("out/ablate_corrector"),
        metavar="FOLDER",
        help="where scenes and parts of the result are kept, so that a run that was ended goes on"
        " (default: out/ablate_corrector)",
    )
    parser.add_argument("--seed", type=int, default=5000, help="of the scenes (default: 5000)")
    parser.add_argument(
        "--device", type=device, default="cpu", help="cpu, cuda or cuda:N (default: cpu)"
    )
    add_checkpoint_option(parser)
    add_json_option(parser)


def run(args: argparse.Namespace) -> None:
    models = read_models(args.models)
    dataset = None if args.bop is None else BopDataset(args.bop)
    shapes = ModelShapes(models.values(), _SHAPE_POINTS)
    path = checkpoint_path(args.checkpoint)
    model = load_model(path, args.device)
    library = model.library
    if library is None:
        raise OptionError(f"{path} holds no shape code library: make one by crisp library build")
    study = CorrectorStudy(model, shapes, args.device)
    by_name = {m.name: m for m in models.values() if m.name in library.names}
    if missing := [name for name in library.names if name not in by_name]:
        raise OptionError(f"{args.models}: no model of {', '.join(missing)}, which the library has")
    models = args.models.resolve()
    kept = KeptParts(args.work / "parts", (study.made_from, str(models)))
    scenes = args.work / f"scenes_{fingerprint(str(models))}"

    @cache
    def meshes() -> dict[str, trimesh.Trimesh]:
        return {name: found.mesh for name, found in by_name.items()}

    instances: list[Instance] = []
    for scene in study_scenes(list(by_name), args.scenes, args.objects, args.seed):

        def measured(scene: Any = scene) -> list[Any]:
            with progress(f"{scene.name}, rendering") as on_frame:
                frames = scene_frames(scene, meshes(), args.frames, scenes, on_frame)
            with progress(f"{scene.name}, measuring") as on_frame:
                return [i.to_json() for i in study.measured(scene.name, frames, on_frame)]

        part = kept.part(f"{scene.key}_{args.frames}", measured)
        instances += map(Instance.from_json, part)
    real: list[Instance] = []
    if dataset is not None:

        def on_real_images() -> list[Any]:
            with progress("real images") as on_frame:
                found = study.measured("real", list(bop_frames(dataset)), on_frame)
            return [i.to_json() for i in found]

        part = kept.part(f"real_{fingerprint(str(dataset.folder.resolve()))}", on_real_images)
        real = [Instance.from_json(values) for values in part]

    @cache
    def views() -> ObjectViews:
        settings = ObjectViewSettings(views=args.views, seed=args.seed)
        return object_views(meshes(), library.names, settings)

    def on_z_trials() -> list[Any]:
        with progress("pose trials") as on_trial:
            found = z_trials(decoder, library, views(), shapes, on_trial=on_trial)
        return [trial._asdict() for trial in found]

    decoder = model.network.decoder
    parts = CorrectorParts(
        instances,
        real,
        kept.part(
            f"shapes_{args.views}_{args.seed}",
            lambda: shape_trial(decoder, library, views())._asdict(),
        ),
        kept.part(
            f"z_{args.views}_{args.seed}",
            on_z_trials,
        ),
        kept.part(
            f"solvers_{args.views}_{args.seed}",
            lambda: solver_trial(decoder, library, views())._asdict(),
        ),
        program_trial(),
    )
    console = Console()
    for table in row_table(parts):
        console.print(table)
    console.print(verdict_table(must_hold(parts)))
    if args.json:
        figures = {"model_version": study.model_version, **report(parts)}
        write_json(args.json, {**provenance(args.command_line, args.device), **figures})
