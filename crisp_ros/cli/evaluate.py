"""`crisp evaluate`: pose and shape errors of a model on a data set."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.table import Table

from crisp_ros.cli.options import (
    OptionError,
    add_cluster_option,
    add_corrector_option,
    add_json_option,
    add_model_options,
    add_precision_option,
    add_prior_checkpoint_option,
    add_shape_option,
    count,
    output_file,
    prior_model,
)
from crisp_ros.cluster import mapping
from crisp_ros.correction.certificate import CertificateSettings
from crisp_ros.data.atomic_file import write_json
from crisp_ros.data.bop import BopDataset
from crisp_ros.data.nocs import SUBSETS, NocsDataset
from crisp_ros.data.spe3r import MAX_DEPTH_M, Spe3rDataset, Split
from crisp_ros.evaluation.bop_csv import (
    median_image_time_s,
    median_score,
    read_bop_csv,
    write_bop_csv,
)
from crisp_ros.evaluation.bop_evaluation import BopEvaluation, BopEvaluationSettings, evaluate_bop
from crisp_ros.evaluation.bop_results import BopResults
from crisp_ros.evaluation.cad_registration import CadRegistration, CadRegistrationSettings
from crisp_ros.evaluation.dataset_loop import DatasetLoop, SampledEvaluationSettings
from crisp_ros.evaluation.frame_estimates import Estimated
from crisp_ros.evaluation.mask_overlap import summarize_overlaps
from crisp_ros.evaluation.nocs_evaluation import NocsEvaluation, evaluate_nocs
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.evaluation.segmented_estimator import SegmentedEstimator
from crisp_ros.evaluation.spe3r_evaluation import Spe3rEvaluation, evaluate_spe3r
from crisp_ros.evaluation.summary_statistics import finite_or_none
from crisp_ros.network.checkpoint import load_model
from crisp_ros.observation.observe import ObservationSettings
from crisp_ros.pipeline import Estimator, EstimatorSettings
from crisp_ros.pipeline.paper_settings import shape_mode_of_test_objects, with_corrector
from crisp_ros.progress import progress
from crisp_ros.reports.dataset_tables import (
    bop_caption,
    bop_report,
    nocs_caption,
    nocs_report,
    spe3r_caption,
    spe3r_report,
)
from crisp_ros.reports.estimate_pictures import PictureSample
from crisp_ros.reports.report_parts import DataReport
from crisp_ros.reports.terminal_tables import (
    instance_table,
    pose_table,
    report_table,
    segmentation_table,
    summary_table,
)
from crisp_ros.segmentation.segmenter import Segmenter, builtin_segmenter
from crisp_ros.share import checkpoint_path

_SPE3R = EstimatorSettings(
    observation=ObservationSettings(max_depth_m=MAX_DEPTH_M),
    certificate=CertificateSettings(quantile=0.97, threshold_m=0.02),
)  # the paper's p and eps; satellites are metres away, and as far as the depth maps reach

_Evaluated = tuple[BopEvaluation | Spe3rEvaluation | NocsEvaluation, DataReport, Iterable[Table]]


_FILE_COLUMNS = 120  # of tables that go into a file or a pipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    bop = kinds.add_parser("bop", help="a data set in BOP layout: models/ and test/")
    _add_bop_options(bop)
    spe3r = kinds.add_parser("spe3r", help="SPE3R with its derived maps (see crisp data maps)")
    spe3r.add_argument("folder", type=Path, metavar="DIR", help="folder with splits.csv")
    spe3r.add_argument(
        "--split", default="test", choices=get_args(Split), help="split (default: test)"
    )
    spe3r.add_argument(
        "--compare",
        action="store_true",
        help="also measure without the corrector: both rows of the paper's Table 10",
    )
    spe3r.set_defaults(evaluate=_evaluate_spe3r)
    nocs = kinds.add_parser("nocs", help="NOCS: CAMERA/ or Real/, obj_models/ and gts/")
    nocs.add_argument("folder", type=Path, metavar="DIR", help="folder with obj_models/")
    nocs.add_argument(
        "--subset", default="real_test", choices=SUBSETS, help="subset (default: real_test)"
    )
    nocs.add_argument(
        "--detections",
        type=Path,
        metavar="DIR",
        help="published detections (results_*.pkl) to use instead of the true masks",
    )
    nocs.set_defaults(evaluate=_evaluate_nocs)
    for kind in (spe3r, nocs):
        kind.add_argument(
            "--every", type=count, default=1, metavar="N", help="use only every N-th image"
        )
    for kind in (bop, spe3r, nocs):
        kind.add_argument(
            "--report",
            type=_report_folder,
            metavar="DIR",
            help="also write a page with tables, curves and pictures",
        )
        add_corrector_option(kind)
        add_shape_option(kind)
        add_cluster_option(kind)
        add_model_options(kind)
        add_prior_checkpoint_option(kind)
        add_precision_option(kind, "float32")
        add_json_option(kind)


def _add_bop_options(bop: argparse.ArgumentParser) -> None:
    bop.add_argument("folder", type=Path, metavar="DIR", help="folder with models/ and the split")
    bop.add_argument("--split", default="test", help="folder of the scenes (default: test)")
    bop.add_argument(
        "--targets",
        type=Path,
        metavar="FILE",
        help="list of targets (default: DIR/test_targets_bop19.json if it exists)",
    )
    bop.add_argument(
        "--csv",
        type=output_file,
        metavar="FILE",
        help="also write the poses in the format of the BOP benchmark",
    )
    bop.add_argument(
        "--results",
        type=Path,
        metavar="FILE",
        help="evaluate poses in the format of the BOP benchmark instead of a model",
    )
    bop.add_argument(
        "--method",
        default="crisp",
        choices=["crisp", "open3d_cad"],
        help="crisp: the model; open3d_cad: a baseline without a network that is given each "
        "object's CAD model: FPFH, RANSAC and ICP of Open3D (default: crisp)",
    )
    bop.add_argument(
        "--vsd",
        action="store_true",
        help="also compute the visible surface discrepancy, which renders each model",
    )
    bop.add_argument(
        "--segment",
        choices=("builtin", "geometry"),
        help="find the objects with the built-in segmenter, or with its geometric part alone,"
        " instead of using the true masks",
    )
    bop.set_defaults(evaluate=_evaluate_bop)


def run(args: argparse.Namespace) -> None:
    if args.report:
        _write_report()  # report missing packages before the long work
    pictures = PictureSample(seed=args.seed)
    evaluation, report, tables = args.evaluate(args, pictures)
    console = Console(width=None if sys.stdout.isatty() else _FILE_COLUMNS)
    for table in tables:
        console.print(table)
    console.print(report.lead, markup=False, highlight=False, soft_wrap=True)
    if args.json:
        write_json(args.json, evaluation.to_json())
    if args.report:
        page = _write_report()(args.report, report)
        console.print(f"{page}", highlight=False, soft_wrap=True)


def _write_report() -> Callable[[Path, DataReport], Path]:
    """`write_report`, which needs Matplotlib: loaded only where a report is asked for."""
    try:
        from crisp_ros.reports.dataset_page import write_report
    except ModuleNotFoundError as error:
        raise OptionError(f"--report: {error}; install it by: pip install matplotlib") from error
    return write_report


@contextmanager
def _loop(
    args: argparse.Namespace, pictures: PictureSample, caption: Callable[[Any], str]
) -> Iterator[DatasetLoop]:
    """Provide a loop with a progress bar, the command's cluster and captioned pictures."""

    def on_instance(estimated: Estimated, errors: Any) -> None:
        pictures.add(estimated, caption(errors))

    with mapping(args.cluster) as mapped, progress("images") as on_frame:
        yield DatasetLoop(on_frame, on_instance, mapped)


def _evaluate_bop(args: argparse.Namespace, pictures: PictureSample) -> _Evaluated:
    dataset = BopDataset(args.folder, args.split, args.targets)
    names = {obj_id: model.name for obj_id, model in dataset.models.items()}
    estimator: Estimator | BopResults | CadRegistration
    if args.method == "open3d_cad":
        estimator, config = _cad_registration(args, dataset)
    elif args.results:
        estimator = BopResults(read_bop_csv(args.results))
        config = {"results": str(args.results), **provenance(args.command_line)}
    else:
        estimator, config = _estimator(args)
    segmented = _segmented(args, estimator)
    settings = BopEvaluationSettings(seed=args.seed, vsd=args.vsd)
    with _loop(args, pictures, lambda errors: bop_caption(errors, names)) as loop:
        evaluation = evaluate_bop(segmented or estimator, dataset, settings, loop)
    measured = {
        "image_time_s": finite_or_none(median_image_time_s(evaluation.results)),
        "median_score": finite_or_none(median_score(evaluation.results)),
    }
    evaluation = replace(evaluation, config={**evaluation.config, **config, **measured})
    if segmented:
        masks = summarize_overlaps(segmented.overlaps)
        evaluation = replace(evaluation, segmentation=masks)
    if args.csv:
        write_bop_csv(args.csv, evaluation.results)
    tables = [
        instance_table(evaluation, names),
        summary_table(evaluation),
        pose_table(evaluation, names),
        *([segmentation_table(evaluation.segmentation)] if evaluation.segmentation else []),
    ]
    return evaluation, bop_report(evaluation, names, pictures.pictures), tables


def _cad_registration(
    args: argparse.Namespace, dataset: BopDataset
) -> tuple[CadRegistration, dict[str, Any]]:
    """The baseline, and what a report says of it."""
    others = [f"--{name}" for name in ("results", "segment") if getattr(args, name)]
    if others:
        raise OptionError(f"--method open3d_cad cannot be used together with {others[0]}")
    settings = CadRegistrationSettings(seed=args.seed)
    config = {"method": args.method, "registration": asdict(settings)}
    estimator = CadRegistration(dataset.models, settings)
    return estimator, {**config, **provenance(args.command_line)}


def _segmented(
    args: argparse.Namespace, estimator: Estimator | BopResults | CadRegistration
) -> SegmentedEstimator | None:
    """The estimator with the masks of a segmenter, None where the true ones are used."""
    if not args.segment:
        return None
    if args.results or args.cluster:
        other = "--results" if args.results else "--cluster"
        raise OptionError(f"--segment cannot be used together with {other}")
    is_learned = args.segment == "builtin"
    return SegmentedEstimator(estimator, builtin_segmenter() if is_learned else Segmenter())


def _evaluate_spe3r(args: argparse.Namespace, pictures: PictureSample) -> _Evaluated:
    dataset = Spe3rDataset(args.folder, args.split)
    estimator, config = _estimator(args, _SPE3R)
    settings = SampledEvaluationSettings(every=args.every, seed=args.seed)
    with _loop(args, pictures, spe3r_caption) as loop:
        evaluation = evaluate_spe3r(estimator, dataset, settings, loop)
    evaluation = replace(evaluation, config={**evaluation.config, **config})
    if args.compare:
        estimator.settings = with_corrector(estimator.settings, "none")
        with mapping(args.cluster) as mapped, progress("images, no corrector") as on_frame:
            loop = DatasetLoop(on_frame, mapped=mapped)
            uncorrected = evaluate_spe3r(estimator, dataset, settings, loop)
        evaluation = replace(evaluation, uncorrected=uncorrected)
    report = spe3r_report(evaluation, pictures.pictures)
    return evaluation, report, map(report_table, report.tables)


def _evaluate_nocs(args: argparse.Namespace, pictures: PictureSample) -> _Evaluated:
    dataset = NocsDataset(args.folder, args.subset)
    if args.detections and not args.detections.is_dir():
        raise OptionError(f"{args.detections}: no such folder; expected results_*.pkl in it")
    estimator, config = _estimator(args)
    settings = SampledEvaluationSettings(every=args.every, seed=args.seed)
    with _loop(args, pictures, nocs_caption) as loop:
        evaluation = evaluate_nocs(estimator, dataset, settings, args.detections, loop)
    evaluation = replace(evaluation, config={**evaluation.config, **config})
    report = nocs_report(evaluation, pictures.pictures)
    return evaluation, report, map(report_table, report.tables)


def _estimator(
    args: argparse.Namespace, settings: EstimatorSettings | None = None
) -> tuple[Estimator, dict[str, Any]]:
    """The estimator of the options, and what a report says of it."""
    path = checkpoint_path(args.checkpoint)
    settings = settings or EstimatorSettings()
    mode = args.shape
    if args.kind != "bop":
        mode = shape_mode_of_test_objects(args.corrector, mode)
    settings = replace(
        with_corrector(settings, args.corrector),
        shape_mode=mode,
        observation=replace(settings.observation, max_objects=None, seed=args.seed),
        registration=replace(settings.registration, seed=args.seed),
        precision=args.precision,
    )
    model, prior = load_model(path, args.device), prior_model(args.prior_checkpoint, args.device)
    estimator = Estimator(model, settings, args.device, prior)
    if args.precision == "auto":
        estimator.warm_up()
    return estimator, {
        "checkpoint": str(path),
        "prior_checkpoint": args.prior_checkpoint,
        "device": args.device,
        "model_version": estimator.model_version,
        "estimator": asdict(estimator.settings),
        **provenance(args.command_line, args.device),
    }


def _report_folder(text: str) -> Path:
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a file; expected a folder to write into")
    return path
