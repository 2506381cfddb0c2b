"""The estimator is created from the parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from crisp_ros.correction.corrector_settings import CORRECTORS
from crisp_ros.network.checkpoint import CheckpointError
from crisp_ros.network.cpu_threads import set_own_cpu_threads
from crisp_ros.node.estimator_factory import (
    checkpoint_file,
    estimator_settings,
    make_estimator,
)
from crisp_ros.node.parameters.node_parameters import Parameters
from crisp_ros.pipeline.paper_settings import as_in_paper
from crisp_ros.share import prior_path


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    set_own_cpu_threads(before)


def test_zero_threads_are_one_per_core_after_other_numbers() -> None:
    def threads(asked: int) -> int:
        make_estimator(Parameters(threads=asked))
        return torch.get_num_threads()

    first = threads(0)
    assert threads(first + 1) == first + 1
    assert threads(0) == first


def test_a_measured_precision_stays_from_frame_to_frame() -> None:
    parameters = Parameters(precision="auto")
    settings = estimator_settings(parameters)
    assert settings.precision == "auto"
    measured = replace(settings, precision="bfloat16")
    assert estimator_settings(parameters, measured).precision == "bfloat16"
    assert estimator_settings(Parameters(precision="float32")).precision == "float32"


@pytest.mark.parametrize("name", CORRECTORS)
def test_the_corrector_has_the_settings_of_its_name(name: str) -> None:
    assert estimator_settings(Parameters(corrector=name)).corrector == CORRECTORS[name]


@pytest.mark.parametrize("name", ["none", "alg1", "alg2"])
def test_the_papers_correctors_run_alone_and_leave_no_trace(name: str) -> None:
    """The parameter may change while the node runs."""
    node = estimator_settings(Parameters())
    paper = estimator_settings(Parameters(corrector=name), node)
    assert paper == as_in_paper(paper) != node
    assert estimator_settings(Parameters(), paper) == node
    parameters = Parameters(correct_turns=False, observed_hulls=False)
    changed = estimator_settings(parameters, paper)
    assert changed.symmetry_search is None and changed.observed_hull is None
    assert changed.visibility == node.visibility


@pytest.mark.parametrize("tables", [True, False])
def test_shape_tables_are_a_setting_of_the_estimator(tables: bool) -> None:
    assert estimator_settings(Parameters(shape_tables=tables)).shape_tables is tables


def test_the_household_model_takes_its_prior_and_remembers() -> None:
    """`model:=household` needs no shape_mode: the node's default leads to the prior."""
    estimator = make_estimator(Parameters(model="household", device="cpu"))
    assert estimator.remembers and estimator.library is None
    assert estimator.model.network.predicts_coordinates and estimator.model.prior.dimensions == 48
    estimator.forget()


@pytest.mark.parametrize("model", ["household", "ycbv"])
def test_the_node_searches_in_the_background(model: str) -> None:
    parameters = Parameters(model=model, device="cpu")
    assert make_estimator(parameters).search_status is not None
    in_the_frame = replace(parameters, background_searches=False)
    assert make_estimator(in_the_frame).search_status is None


def test_a_model_file_precedes_the_name_of_a_model() -> None:
    assert checkpoint_file(Parameters(checkpoint="/a/b", model="household")) == Path("/a/b")
    assert checkpoint_file(Parameters()).name == "crisp_ycbv_compact.safetensors"
    named = checkpoint_file(Parameters(model="household"))
    assert named.name == "crisp_household_compact.safetensors"


@pytest.mark.parametrize("prior, version", [("household", "0.3.0"), ("none", ""), ("", "")])
def test_a_prior_is_next_to_the_library(prior: str, version: str) -> None:
    estimator = make_estimator(Parameters(prior_checkpoint=prior, device="cpu"))
    assert estimator.remembers == bool(version)
    assert estimator.prior_version.partition("-")[0] == version


def test_a_model_without_a_library_reads_no_prior() -> None:
    parameters = Parameters(model="household", prior_checkpoint="/not/there", device="cpu")
    assert make_estimator(parameters).prior_model is None


def test_a_prior_file_that_is_none_is_refused(tmp_path: Path) -> None:
    """Missing, damaged, and a model file without a prior: the error names file and cause."""
    damaged = bytearray(prior_path("household").read_bytes())
    damaged[-1000] ^= 0xFF
    (tmp_path / "damaged.safetensors").write_bytes(damaged)
    for path, words in (
        (tmp_path / "missing.safetensors", "no such file"),
        (tmp_path / "damaged.safetensors", "checksum does not match"),
        (checkpoint_file(Parameters()), "it has no prior over shapes"),
    ):
        with pytest.raises(CheckpointError, match=words) as error:
            make_estimator(Parameters(prior_checkpoint=str(path), device="cpu"))
        assert path.name in str(error.value)
