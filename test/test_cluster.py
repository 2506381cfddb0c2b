"""Distributed work: the same results in the same order as in one process, and clear errors."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from drawing import needs_egl
from small_nocs import write_small_nocs
from small_spe3r import write_small_spe3r
from tiny_bop import primitives, write_tiny_bop
from tiny_model import write_tiny_model

from crisp_ros.cli.main import main
from crisp_ros.cluster import ClusterError, MapFunction, mapping
from crisp_ros.data.spe3r import Spe3rDataset
from crisp_ros.synthesis.crop_set import CropSet
from crisp_ros.synthesis.spe3r_maps import write_maps
from crisp_ros.training.objects import training_objects
from crisp_ros.training.recipe import Recipe
from crisp_ros.training.rendered_crops import render_crops
from crisp_ros.training.training_settings import TrainingSettings

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a cluster of two workers, which use one thread each, like the tests."""
    cluster = distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        dashboard_address=None,
        local_directory=str(tmp_path_factory.mktemp("workers")),
        silence_logs="ERROR",
    )
    with cluster:
        yield cluster.scheduler_address


@pytest.fixture
def mapped(scheduler: str) -> Iterator[MapFunction]:
    with mapping(scheduler) as mapped:
        yield mapped


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


def test_without_a_cluster_it_is_the_built_in_map() -> None:
    with mapping(None) as mapped:
        assert mapped is map


def test_results_come_in_order_and_from_several_processes(mapped: MapFunction) -> None:
    results = list(mapped(lambda number: (number, os.getpid()), range(40)))
    assert [number for number, _ in results] == list(range(40))
    processes = {process for _, process in results}
    assert len(processes) == 2 and os.getpid() not in processes


def test_items_are_consumed_lazily(mapped: MapFunction) -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    results = mapped(abs, items())
    assert [next(results) for _ in range(3)] == [0, 1, 2] and len(taken) < 20
    results.close()


def test_the_error_of_an_item_is_raised(mapped: MapFunction) -> None:
    def fail(number: int) -> int:
        raise ValueError(f"part {number} is wrong")

    with pytest.raises(ValueError, match="part 3 is wrong"):
        list(mapped(fail, [3]))


def test_items_of_a_dead_worker_are_repeated(mapped: MapFunction, tmp_path: Path) -> None:
    def dies_once(number: int) -> int:
        died = tmp_path / "died"
        if number == 2 and not died.exists():
            died.touch()
            os._exit(1)
        return number

    assert list(mapped(dies_once, range(6))) == list(range(6))
    assert (tmp_path / "died").exists()


@pytest.mark.slow
def test_an_item_that_kills_every_worker_raises_an_error(mapped: MapFunction) -> None:
    with pytest.raises(ClusterError, match="workers were lost"):
        list(mapped(lambda number: os._exit(1), [1]))


@pytest.mark.parametrize(
    "cluster, complaint",
    [
        ("local:0", "a positive number"),
        ("local:many", "a positive number"),
        ("127.0.0.1:1", "no Dask scheduler answers"),
        ("nonsense://here", "no Dask scheduler answers"),
    ],
)
def test_an_unreachable_cluster_is_a_one_line_error(
    cluster: str,
    complaint: str,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("crisp_ros.cluster._JOIN_S", 3.0)
    folder = str(write_tiny_bop(tmp_path))
    words = ["evaluate", "bop", folder, "--checkpoint", str(checkpoint), "--cluster", cluster]
    assert main(words) == 1
    printed = capsys.readouterr().err
    assert complaint in printed and printed.count("\n") == 1


def test_workers_of_another_version_are_refused(
    scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crisp_ros.__version__", "9.9.9")
    with pytest.raises(ClusterError, match="this machine has 9.9.9"), mapping(scheduler):
        pass


def write_data(kind: str, folder: Path) -> Path:
    if kind == "bop":
        return write_tiny_bop(folder)
    needs_egl()
    if kind == "nocs":
        write_small_nocs(folder)
        return folder
    write_small_spe3r(folder)
    write_maps(Spe3rDataset(folder, "test"))
    return folder


@pytest.mark.parametrize(
    "kind",
    ["bop", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("spe3r", "nocs"))],
)
def test_an_evaluation_by_two_workers_has_the_same_figures(
    kind: str, scheduler: str, checkpoint: Path, tmp_path: Path
) -> None:
    folder = write_data(kind, tmp_path / "data")
    reports = []
    for cluster in ([], ["--cluster", scheduler]):
        words = ["evaluate", kind, str(folder), "--checkpoint", str(checkpoint), *cluster]
        assert main([*words, "--json", str(tmp_path / "figures.json")]) == 0
        reports.append(json.loads((tmp_path / "figures.json").read_text()))
        reports[-1].pop("config")
    assert reports[0] == reports[1]


@pytest.mark.parametrize(
    "words",
    [
        ["scattered", "--frames", "10"],
        pytest.param(["tables", "--scenes", "2", "--views", "1"], marks=pytest.mark.slow),
    ],
)
def test_images_rendered_by_two_workers_are_the_same(
    words: list[str], scheduler: str, tmp_path: Path
) -> None:
    needs_egl()
    models = write_tiny_bop(tmp_path / "tiny") / "models"
    written = []
    for name, cluster in (("here", []), ("there", ["--cluster", scheduler])):
        output = tmp_path / name
        command = ["render", *words, "--models", str(models), "--output", str(output), *cluster]
        assert main(command) == 0
        files = sorted(path for path in output.rglob("*") if path.is_file())
        written.append({path.relative_to(output): path.read_bytes() for path in files})
    assert written[0] == written[1] and len(written[0]) > 6


@pytest.mark.slow
def test_training_crops_rendered_by_two_workers_are_the_same(
    mapped: MapFunction, tmp_path: Path
) -> None:
    needs_egl()
    for obj_id, mesh in primitives().items():
        mesh.export(tmp_path / f"part_{obj_id}.ply")
    objects = training_objects(tmp_path, units="m")
    training = TrainingSettings(steps=1, batch=2, held_out_crops=2)
    recipe = Recipe(shards=3, shard_crops=6, stored_px=32, training=training)
    progress: list[tuple[int, int]] = []
    render_crops(tmp_path / "here", range(3), objects, recipe)
    render_crops(
        tmp_path / "there", range(3), objects, recipe, lambda *at: progress.append(at), mapped
    )
    by_one, by_two = (CropSet(tmp_path / name).batch(np.arange(18)) for name in ("here", "there"))
    for mine, theirs in zip(by_one, by_two, strict=True):
        assert np.array_equal(mine, theirs, equal_nan=mine.dtype.kind == "f")
    assert progress == [(0, 3), (1, 3), (2, 3), (3, 3)]
