"""`crisp ablate coordinates`: metric and normalised coordinates under the same self-training."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from crisp_ros.adaptation.reference_set import ReferenceSet, reference_crops
from crisp_ros.adaptation.samples import POINTS
from crisp_ros.cli.options import (
    OptionError,
    add_checkpoint_option,
    add_json_option,
    add_models_option,
    add_observed_poses_option,
    count,
    output_file,
)
from crisp_ros.data.atomic_file import write_json
from crisp_ros.data.bop import read_models
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.network.checkpoint import Model, load_model
from crisp_ros.progress import progress
from crisp_ros.share import checkpoint_path
from crisp_ros.studies.coordinates_study import (
    KINDS,
    CoordinatesSettings,
    CoordinatesStudy,
    Seen,
    seen,
)
from crisp_ros.studies.resumable_parts import KeptParts
from crisp_ros.synthesis.scattered_frames import DOMAINS, scattered_frames
from crisp_ros.synthesis.scenes import load_observed_poses, viewpoints

_FRAMES_PER_CROP = 40  # most frames rendered for each crop asked for of a shape
_SEEDS = {"day": 5, "dusk": 6}
_DRAWN = "035_power_drill"  # the object of the picture, where the models have it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = CoordinatesSettings()
    add_models_option(parser)
    add_observed_poses_option(parser)
    parser.add_argument(
        "--crops",
        type=count,
        default=8,
        help="of each shape by day, with truth, to train the head on (default: 8)",
    )
    parser.add_argument(
        "--dusk-crops",
        type=count,
        default=4,
        help="of each shape at dusk, to self-train on (default: 4)",
    )
    parser.add_argument(
        "--head-steps",
        type=count,
        default=defaults.head_steps,
        help=f"of the head's training (default: {defaults.head_steps})",
    )
    parser.add_argument(
        "--steps",
        type=count,
        default=defaults.steps,
        help=f"of the self-training (default: {defaults.steps})",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("out/ablate_coordinates"),
        metavar="FOLDER",
        help="where each kind's result is kept, so that a run that was ended goes on with the other"
        " (default: out/ablate_coordinates)",
    )
    parser.add_argument("--png", type=output_file, metavar="FILE", help="draw the figure")
    add_checkpoint_option(parser)
    add_json_option(parser)


def run(args: argparse.Namespace) -> None:
    path = checkpoint_path(args.checkpoint)
    model = load_model(path)
    if model.library is None:
        raise OptionError(f"{path}: has no library of known shapes")
    settings = CoordinatesSettings(head_steps=args.head_steps, steps=args.steps)
    made_from = (settings, model.header["sha256"], args.crops, args.dusk_crops)
    kept = KeptParts(args.work, made_from)
    by_day = _Crops(args, model, "day", args.crops)
    at_dusk = _Crops(args, model, "dusk", args.dusk_crops)
    kinds: dict[str, dict[str, Any]] = {}
    for kind in KINDS:

        def made(kind: str = kind) -> dict[str, Any]:
            return _studied(model, kind, settings, by_day, at_dusk)

        kinds[kind] = kept.part(kind, made)
    Console().print(_table(kinds))
    if args.png:
        from crisp_ros.reports.coordinates_figure import draw_coordinates

        draw_coordinates(kinds, args.png)
    if args.json:
        figures = {
            "shapes": len(model.library),
            "crops_by_day": args.crops,
            "crops_at_dusk": args.dusk_crops,
            "settings": dataclasses.asdict(settings),
            **{
                kind: {
                    "norm_ratio": _ratio(study["history"]),
                    "history": study["history"],
                }
                for kind, study in kinds.items()
            },
        }
        write_json(args.json, {**provenance(args.command_line), **figures})


class _Crops:
    """Crops of one light, rendered when they are first asked for."""

    def __init__(self, args: argparse.Namespace, model: Model, domain: str, each: int) -> None:
        self._args, self._model, self._domain, self._each = args, model, domain, each
        self._seen: Seen | None = None

    def __call__(self) -> Seen:
        if self._seen is None:
            self._seen = seen(self._rendered(), self._model)
        return self._seen

    def _rendered(self) -> ReferenceSet:
        args = self._args
        models = read_models(args.models)
        meshes = {obj_id: m.mesh for obj_id, m in models.items()}
        observed = load_observed_poses(args.observed_poses) if args.observed_poses else {}
        views = [viewpoints(mesh, observed.get(obj_id)) for obj_id, mesh in meshes.items()]
        names = {obj_id: m.name for obj_id, m in models.items()}
        domain, most = DOMAINS[self._domain], _FRAMES_PER_CROP * self._each
        with progress(f"frames by {self._domain}, at most") as on_frame:
            frames = scattered_frames(meshes, views, domain, most, _SEEDS[self._domain], on_frame)
            return reference_crops(self._model, frames, names, self._each, POINTS)


def _studied(
    model: Model, kind: str, settings: CoordinatesSettings, by_day: _Crops, at_dusk: _Crops
) -> dict[str, Any]:
    study = CoordinatesStudy(model, kind, settings)
    with progress(f"head, {kind}") as on_step:
        study.train_head(by_day(), on_step)
    crops = at_dusk()
    named = [model.library.names[k] for k in crops.shape]
    row = named.index(_DRAWN) if _DRAWN in named else 0
    before = study.coordinates(crops, row)
    with progress(f"self-training, {kind}") as on_step:
        history = study.self_train(crops, on_step)
    points = {
        "surface": study.surface(int(crops.shape[row])),
        "before": before,
        "after": study.coordinates(crops, row),
    }
    return {"history": history, "picture": {k: _rounded(v) for k, v in points.items()}}


def _rounded(points: torch.Tensor) -> list[list[float]]:
    return [[round(x, 5) for x in point] for point in points.tolist()]


def _ratio(history: list[dict[str, float]]) -> float:
    return history[-1]["norm_m"] / history[0]["norm_m"]


def _table(kinds: dict[str, dict[str, Any]]) -> Table:
    table = Table(title="Self-training with the same recipe, before and after")
    for heading in ("coordinates", "|Z| after / before", "ADD-S AUC (2 cm)", "certified"):
        table.add_column(heading)
    for kind, study in kinds.items():
        first, last = study["history"][0], study["history"][-1]
        table.add_row(
            kind,
            f"{_ratio(study['history']):.2f}",
            f"{first['auc_add_s_2cm']:.3f} -> {last['auc_add_s_2cm']:.3f}",
            f"{first['certified']:.2f} -> {last['certified']:.2f}",
        )
    return table
