"""The estimator is created from the parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from crisp_ros.correction.corrector_settings import CORRECTORS
from crisp_ros.network.cpu_threads import set_own_cpu_threads
from crisp_ros.node.estimator_factory import estimator_settings, make_estimator
from crisp_ros.node.parameters.node_parameters import Parameters


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
