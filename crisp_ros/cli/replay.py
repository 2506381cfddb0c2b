"""`crisp replay`: repeats the estimate of a frame that the node dumped."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from crisp_ros.cli.options import OptionError, add_json_option, device, prior_model
from crisp_ros.cli.view import add_png_option, view
from crisp_ros.data.atomic_file import write_json
from crisp_ros.evaluation.estimate_difference import EstimateDifference, estimate_differences
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.network.checkpoint import Model, load_model
from crisp_ros.network.cpu_threads import set_own_cpu_threads
from crisp_ros.pipeline import Estimator, FrameEstimate, model_version
from crisp_ros.pipeline.frame_dump import FrameDump, FrameDumpError, read_frame_dump
from crisp_ros.reports.scene_view import ViewedFrame
from crisp_ros.share import BUNDLED_PRIOR, checkpoint_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="file of the node's ~/dump_frame")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="MODEL",
        help="model file (default: that of the node)",
    )
    parser.add_argument(
        "--prior-checkpoint",
        metavar="MODEL",
        help="model file with the prior for unknown objects, or none (default: that of the node)",
    )
    parser.add_argument(
        "--device", type=device, help="cpu, cuda or cuda:N (default: that of the node)"
    )
    parser.add_argument(
        "--view", action="store_true", help="show the repeated estimate in a window, in 3D"
    )
    add_png_option(parser)
    add_json_option(parser)


def run(args: argparse.Namespace) -> None:
    dump = read_frame_dump(args.file)
    where = args.device or _device(dump)
    prior = _prior_model(dump, args.prior_checkpoint, where)
    estimator = _estimator(dump, args.checkpoint, prior, where)
    set_own_cpu_threads(dump.threads)
    T = None
    if dump.prior_context is not None:
        estimator.replay(dump.prior_context)
        T = np.eye(4)  # whatever it is: the context has the poses in the camera frame
    repeated = estimator.trace(dump.frame, T_fixed_camera=T, expected=dump.expected).estimate
    differences = estimate_differences(dump.estimate, repeated)
    console = Console()
    console.print(_table(dump, repeated, differences))
    identical = all(d.identical for d in differences)
    console.print(
        "identical to the last bit" if identical else "not identical to the last bit",
        highlight=False,
    )
    if args.json:
        content = {
            "file": str(args.file),
            "model_version": repeated.model_version,
            "identical": identical,
            "objects": [d.to_json() for d in differences],
            "rejected": [list(r) for r in repeated.rejected],
            **provenance(args.command_line, where),
        }
        write_json(args.json, content)
    if args.view or args.png:
        objects = [e.observed() for e in repeated.objects]
        title = f"{args.file.name}, model {repeated.model_version}"
        viewed = ViewedFrame(title, dump.frame, objects, estimator.meshes(objects))
        view(iter([viewed]), args.png)
    apart = [
        f"label {d.label} by {1e3 * d.metres:.3g} mm, {math.degrees(d.radians):.3g} degrees"
        for d in differences
        if not d.is_reproduced
    ]
    if apart:
        raise FrameDumpError(f"{args.file}: not reproduced: {'; '.join(apart)}")


def _device(dump: FrameDump) -> str:
    try:
        return device(dump.device)
    except argparse.ArgumentTypeError as error:
        raise OptionError(
            f"the frame was estimated on {dump.device}: {error}; name another by --device"
        ) from error


def _prior_model(dump: FrameDump, given: str | None, where: str) -> Model | None:
    """The model with the prior for unknown objects."""
    recorded = dump.prior_checkpoint
    if recorded and not Path(recorded).is_file():  # of another machine
        recorded = BUNDLED_PRIOR
    model = prior_model(recorded if given is None else given, where)
    version = "" if model is None else model_version(model)
    if version != dump.prior_version:
        raise OptionError(
            f"the prior for unknown objects is {version or 'none'}, that of the frame was "
            f"{dump.prior_version or 'none'}: name that file by --prior-checkpoint"
        )
    return model


def _estimator(
    dump: FrameDump, checkpoint: Path | None, prior: Model | None, where: str
) -> Estimator:
    recorded = Path(dump.checkpoint) if dump.checkpoint else None
    path = checkpoint_path(checkpoint or (recorded if recorded and recorded.is_file() else None))
    estimator = Estimator(load_model(path, where), dump.settings, where, prior)
    if estimator.model_version != dump.estimate.model_version:
        raise OptionError(
            f"{path} is model {estimator.model_version}, the frame was estimated by "
            f"{dump.estimate.model_version}: name that file by --checkpoint (a model that trained "
            "itself is saved by the node's ~/save_checkpoint, while it is in use)"
        )
    return estimator


def _table(
    dump: FrameDump, repeated: FrameEstimate, differences: list[EstimateDifference]
) -> Table:
    height, width = dump.frame.labels.shape
    table = Table(
        title=f"{width} x {height} px, model {repeated.model_version}, stamp "
        f"{dump.context.get('stamp', 'unknown')}",
    )
    for column in ("label", "x y z (m)", "certified", "apart (mm)", "apart (deg)", "identical"):
        justify = "left" if column == "identical" else "right"
        table.add_column(column, justify=justify, no_wrap=column == "x y z (m)")
    by_label: dict[int, Any] = {e.label: e for e in repeated.objects}
    for d in differences:
        e = by_label[d.label]
        table.add_row(
            str(d.label),
            " ".join(f"{v:.3f}" for v in e.T_camera_object[:3, 3]),
            "yes" if e.certified else e.reason,
            f"{1e3 * d.metres:.3g}",
            f"{math.degrees(d.radians):.3g}",
            "yes" if d.identical else "no",
        )
    for label, reason in repeated.rejected:
        table.add_row(str(label), "", reason)
    return table
