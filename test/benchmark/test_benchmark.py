"""The benchmark on a small model: its rows, its comparisons, what it refuses."""

import dataclasses

import pytest
import torch

from crisp_ros.benchmark.benchmark import BenchReport, run_bench, run_random_bench
from crisp_ros.benchmark.benchmark_page import (
    comparison_table,
    markdown_page,
    stage_table,
    version_table,
)
from crisp_ros.benchmark.compared_version import Version
from crisp_ros.benchmark.decoded_views import ViewError
from crisp_ros.benchmark.solver_accuracy import Comparison, comparisons
from crisp_ros.benchmark.solver_tasks import BenchError, BenchSettings, problems
from crisp_ros.benchmark.stopwatch import Timing
from crisp_ros.benchmark.version_comparison import Row, Sample, VersionReport
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.geometry.isosurface import IsosurfaceSettings, extract_meshes
from crisp_ros.network.checkpoint import Model
from crisp_ros.network.model import CrispNetwork, network_config
from crisp_ros.network.precision import native_precisions
from crisp_ros.share import share_directory

RECORDING = share_directory() / "recordings" / "table"
SETTINGS = BenchSettings(quick=True, objects=2, points=128, voxels=16)
ROWS = (
    "network registration z_gradient z_second_order h_gradient lsq certificate mesh frame "
    "baseline_z baseline_h baseline_lsq baseline_mesh field field_decoder"
).split()
STARTS = ("tables_made", "configuration")  # of all shapes of the library


@pytest.fixture(scope="module")
def model(known) -> Model:
    """An untrained network around the decoder that knows some shapes."""
    torch.manual_seed(0)
    config = dataclasses.replace(
        network_config("compact"), shape_hidden=(16,), decoder_hidden=known.decoder.hidden
    )
    network = CrispNetwork(config).eval()
    network.decoder = known.decoder
    return Model(network, known.library, {"version": "test"})


@pytest.fixture(scope="module")
def report(model: Model) -> BenchReport:
    return run_bench(model, RECORDING, SETTINGS)


def test_every_row_and_comparison_is_there(report: BenchReport) -> None:
    written = report.to_json()
    rows = {row["name"]: row for row in written["stages"]}
    assert {*ROWS, *STARTS} <= set(rows)
    for name, row in rows.items():
        assert 0.0 < row["median_ms"] <= row["p95_ms"] and row["solver"]
        assert row["objects"] == (8 if name in STARTS else 2)
    pairs = {(c["name"], c["baseline"]): c for c in written["comparisons"]}
    assert pairs["z_second_order", "baseline_z"]["required_ratio"] == 10
    assert pairs["lsq", "baseline_lsq"]["required_ratio"] == 4
    assert pairs["h_gradient", "baseline_h"]["required_ratio"] == 3
    assert pairs["mesh", "baseline_mesh"]["required_ratio"] == 8
    whole = rows["registration"]["median_ms"] + rows["z_second_order"]["median_ms"]
    assert pairs["z_second_order", "baseline_z"]["ours_ms"] == pytest.approx(whole)
    assert {"network", "correction", "tracking", "mesh"} <= set(written["frame_stages_median_ms"])
    assert written["frame_on_device"] is None and written["frame_limit_ms"] == 1000


def test_our_answers_are_as_good(report: BenchReport) -> None:
    for comparison in report.comparisons:
        if comparison.required is not None:
            assert comparison.answers.as_good, f"{comparison.name}: {comparison.answers.words}"


def test_tables_and_page_show_the_figures(report: BenchReport) -> None:
    assert stage_table(report).row_count == len(report.timings)
    assert comparison_table(report).row_count == len(report.comparisons)
    page = markdown_page(report, provenance("crisp bench --quick"))
    median = f"{report.timings['lsq'].median_ms:.1f}"
    assert "    crisp bench --quick\n" in page and f"| lsq | 2 | 128 | {median} |" in page
    assert "| z_second_order | 2 |" in page and "watertight" in page
    assert "## Comparison with the baselines" in page
    assert "Network: compact, model test." in page and "## Starts and versions" not in page


def test_page_names_commit_and_versions(report: BenchReport) -> None:
    pair = (Version("this version", "python", None, "abc"), Version("v1", "python", None, ""))
    about = {"model_version": "m", "precision": "float32"}
    rows = (
        Row("frame", "ms", (Sample((100.0, 120.0)), Sample((330.0,)))),
        Row("frame: print", "ms", (Sample((4.0,)), Sample(()))),
    )
    versions = VersionReport(pair, (about, {**about, "objects": 10, "certified": 9}), rows)
    compared = dataclasses.replace(report, versions=versions)
    page = markdown_page(compared, {**provenance("crisp bench"), "commit": "0123abc"})
    assert ", commit 0123abc. " in page
    assert "- A, this version: commit abc, model m, float32\n" in page
    assert "- B, v1: model m, float32, 9 of 10 objects certified\n" in page
    assert "| quantity | A, median | p95 | B, median | p95 | B / A |" in page
    assert "| frame, ms | 110 | 119 | 330 | 330 | 3 |" in page
    assert "| frame: print, ms | 4 | 4 | - | - | - |" in page
    table = version_table(versions)
    assert table.row_count == 2 and len(table.columns) == 6
    alone = VersionReport(pair[:1], (about,), (Row("frame", "ms", (Sample((1.0,)),)),))
    assert len(version_table(alone).columns) == 3
    assert compared.to_json()["versions"]["rows"][0]["ratio"] == 3.0


def test_worse_answers_and_slow_rows_do_not_hold(model: Model, report: BenchReport) -> None:
    given = problems(model, SETTINGS, "cpu")
    decoder, library = model.network.decoder, model.library

    def judged(name: str, baseline: str, answers: dict) -> Comparison:
        timings = {**report.timings, name: _with(report.timings[name], answers)}
        found = comparisons(timings, given, decoder, library, SETTINGS)
        return next(c for c in found if (c.name, c.baseline) == (name, baseline))

    away = {i: torch.eye(4).repeat(2, 1, 1) for i in range(2)}
    assert not judged("z_second_order", "baseline_z", away).answers.as_good
    other = {i: (problem.views.shapes + 1) % 8 for i, problem in enumerate(given)}
    assert not judged("lsq", "baseline_lsq", other).answers.as_good
    moved = {
        i: extract_meshes(
            lambda x, k, problem=problem: decoder.sdf(x + 0.01, problem.codes[0]),
            library.lower[problem.views.shapes],
            library.upper[problem.views.shapes],
            IsosurfaceSettings(voxels=16),
        )
        for i, problem in enumerate(given)
    }
    assert not judged("mesh", "baseline_mesh", moved).answers.as_good
    good = next(c for c in report.comparisons if c.name == "mesh")
    assert not dataclasses.replace(good, ours_ms=1.0, baseline_ms=7.9, required=8.0).holds
    assert dataclasses.replace(good, ours_ms=1.0, baseline_ms=8.1, required=8.0).holds


def _with(timing: Timing, answers: dict) -> Timing:
    return Timing(timing.task, timing.milliseconds, answers)


def test_random_weights_are_timed_without_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    def small(name: str) -> CrispNetwork:
        config = dataclasses.replace(
            network_config(name), shape_hidden=(8,), decoder_hidden=8, decoder_layers=2
        )
        return CrispNetwork(config)

    monkeypatch.setattr("crisp_ros.benchmark.benchmark.build_network", small)
    report = run_random_bench("compact", RECORDING, SETTINGS)
    precisions = native_precisions(torch.device("cpu"))[1:]
    networks = ["network", *(f"network_{p}" for p in precisions)]
    assert set(report.timings) == {*networks, "frame"} and not report.comparisons
    page = markdown_page(report, provenance("crisp bench"))
    assert "compact with random weights" in page and "Comparison with the baselines" not in page


def test_models_that_will_not_do_are_refused(model: Model) -> None:
    with pytest.raises(BenchError, match="no shape code library"):
        run_bench(Model(model.network, None, {}), RECORDING, SETTINGS)
    blank = dataclasses.replace(model.library, codes=torch.zeros_like(model.library.codes))
    with pytest.raises(ViewError, match="is the model trained"):
        run_bench(Model(model.network, blank, {}), RECORDING, SETTINGS)


def test_tasks_of_a_quick_run_are_few(model: Model) -> None:
    assert len(problems(model, SETTINGS, "cpu")) == 2
    assert len(problems(model, dataclasses.replace(SETTINGS, quick=False), "cpu")) == 4
