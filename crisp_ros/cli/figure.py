"""`crisp figure`: the figures of the method, drawn from a model alone."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from crisp_ros.cli.options import (
    OptionError,
    add_checkpoint_option,
    add_json_option,
    count,
    model_with_library,
    output_file,
)
from crisp_ros.data.atomic_file import write_json
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.network.checkpoint import Model
from crisp_ros.pipeline import model_version
from crisp_ros.progress import progress

_FIGURES = {
    "degeneracy": "when do the points of a rotating mug determine its shape?",
    "corrector": "objective and error of each solver of the corrector, over its iterations",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    figures = parser.add_subparsers(dest="figure", metavar="FIGURE", required=True)
    for name, summary in _FIGURES.items():
        figure = figures.add_parser(name, help=summary, description=summary.capitalize())
        figure.add_argument(
            "--output",
            type=output_file,
            default=Path("out/figures") / f"{name}.png",
            metavar="FILE",
            help=f"PNG to write (default: out/figures/{name}.png)",
        )
        figure.add_argument(
            "--views",
            type=count,
            help="views of the rotating mug (default: 31)"
            if name == "degeneracy"
            else "views per shape (default: 2)",
        )
        add_checkpoint_option(figure)
        figure.add_argument(
            "--seed", type=int, default=0, help="seed of points and noise (default: 0)"
        )
        add_json_option(figure)


def run(args: argparse.Namespace) -> None:
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise OptionError(f"figures need matplotlib ({error}): pip install matplotlib") from error
    model = model_with_library(args.checkpoint)
    draw = {"degeneracy": _degeneracy, "corrector": _corrector}[args.figure]
    figures = draw(args, model)
    Console().print(f"figure: {args.output}", highlight=False, soft_wrap=True)
    if args.json:
        version = {"model_version": model_version(model)}
        write_json(args.json, {**provenance(args.command_line), **version, **figures})


def _degeneracy(args: argparse.Namespace, model: Model) -> dict:
    from crisp_ros.reports.degeneracy_figure import draw_degeneracy
    from crisp_ros.studies.degeneracy_study import DegeneracyStudySettings, degeneracy_study

    settings = DegeneracyStudySettings(seed=args.seed)
    settings = replace(settings, views=args.views or settings.views)
    with progress("views") as on_view:
        study = degeneracy_study(model.network.decoder, model.library, settings, on_view, model)
    draw_degeneracy(study, args.output)
    return study.to_json()


def _corrector(args: argparse.Namespace, model: Model) -> dict:
    from crisp_ros.reports.convergence_figure import draw_convergence
    from crisp_ros.studies.convergence_study import ConvergenceStudySettings, convergence_study

    settings = ConvergenceStudySettings(seed=args.seed)
    settings = replace(settings, views=args.views or settings.views)
    with progress("solves") as on_solve:
        study = convergence_study(model.network.decoder, model.library, settings, on_solve)
    draw_convergence(study, args.output)
    return study.to_json()
