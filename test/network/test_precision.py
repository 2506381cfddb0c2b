"""Precision of the network: what a processor has, what is the fastest, how accurate it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from crisp_ros.network import precision
from crisp_ros.network.model import build_network
from crisp_ros.network.precision import fastest_precision, native_precisions

CPU = torch.device("cpu")


class Machine:
    """A clock that advances by what the precisions take, seconds."""

    def __init__(self, seconds: dict[str, list[float]], infinite: tuple[str, ...] = ()) -> None:
        self.seconds, self.infinite, self.now = seconds, infinite, 0.0
        self.runs: list[str] = []

    def infer(self, name: str) -> bool:
        self.runs.append(name)
        times = self.seconds[name]
        self.now += times[self.runs.count(name) % len(times)]
        return name not in self.infinite

    def fastest(self) -> str:
        return fastest_precision(self.infer, CPU, lambda: self.now)


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "native_precisions", lambda device: ("float32", "bfloat16"))


@pytest.mark.usefixtures("both")
def test_the_fastest_precision_is_taken() -> None:
    assert Machine({"float32": [0.1], "bfloat16": [0.05]}).fastest() == "bfloat16"
    assert Machine({"float32": [0.1], "bfloat16": [0.3]}).fastest() == "float32"
    assert Machine({"float32": [0.1], "bfloat16": [0.09]}).fastest() == "float32"  # not worth it
    # A slow run of either is other work of the machine.
    assert Machine({"float32": [0.1, 0.9], "bfloat16": [0.05, 0.8]}).fastest() == "bfloat16"


@pytest.mark.usefixtures("both")
def test_a_precision_that_overflows_is_not_taken() -> None:
    machine = Machine({"float32": [0.1], "bfloat16": [0.05]}, infinite=("bfloat16",))
    assert machine.fastest() == "float32"


@pytest.mark.usefixtures("both")
def test_measurements_of_a_slow_network_end_early() -> None:
    machine = Machine({"float32": [3.0], "bfloat16": [9.0]})
    assert machine.fastest() == "float32"
    assert machine.runs == ["float32", "bfloat16"] * 2


def test_nothing_is_measured_without_a_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "native_precisions", lambda device: ("float32",))
    machine = Machine({"float32": [1.0]})
    assert machine.fastest() == "float32" and machine.runs == []


@pytest.mark.parametrize(
    "info, found",
    [
        ("model name: a\nflags : fpu avx512f avx512_bf16 sse\nflags : x\n", True),
        ("Features        : fp asimd bf16\n", True),
        ("flags : fpu avx2 avx512f\n", False),
        ("", False),
    ],
)
def test_processor_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, info: str, found: bool
) -> None:
    monkeypatch.setattr(precision, "_CPU_INFO", tmp_path / "cpuinfo")
    assert native_precisions(CPU) == ("float32",)  # no such file
    (tmp_path / "cpuinfo").write_text(info)
    assert native_precisions(CPU) == (("float32", "bfloat16") if found else ("float32",))


def test_outputs_are_not_rounded_to_bfloat16() -> None:
    """The last layers compute in float32, also where everything else is in bfloat16."""
    torch.manual_seed(0)
    network = build_network("compact_rgbd").eval().requires_grad_(False)
    crops = torch.rand(2, network.input_channels, 96, 96)
    exact = network(crops)
    with torch.autocast("cpu", torch.bfloat16):
        found = network(crops)
    assert found.pnc.dtype == found.code.dtype == torch.float32
    assert (found.pnc.bfloat16().float() != found.pnc).float().mean() > 0.9
    for a, b in zip(found, exact, strict=True):
        assert (a - b).abs().median() < 5e-3 * b.abs().median()
