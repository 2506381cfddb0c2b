"""Checks of machine and model, on machines with simulated faults."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from crisp_ros.doctor import machine_checks
from crisp_ros.doctor.findings import Finding, Verdict
from crisp_ros.doctor.machine_checks import (
    distribution_version,
    machine_findings,
    model_findings,
)


class Usage(NamedTuple):
    """Part of `shutil.disk_usage`."""

    free: int


def found(name: str) -> Finding:
    (finding,) = (f for f in machine_findings() if f.name == name)
    return finding


def test_every_problem_has_advice() -> None:
    for finding in machine_findings():
        assert bool(finding.advice) == (finding.verdict is not Verdict.FINE)


@pytest.mark.parametrize("total_gib, verdict", [(16, Verdict.FINE), (2, Verdict.NOTE)])
def test_caches_count_as_available(
    total_gib: int, verdict: Verdict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "meminfo"
    lines = f"MemTotal: {total_gib * 2**20} kB", "MemFree: 300000 kB", "MemAvailable: 1572864 kB"
    file.write_text("\n".join((*lines, "HugePages_Total: 0")))
    monkeypatch.setattr(machine_checks, "_MEMORY", file)
    finding = found("memory")
    assert finding.verdict is verdict
    assert finding.found == f"1.5 of {total_gib}.0 GiB available"


def test_full_shared_memory_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/shm").is_dir():
        pytest.skip("there is no shared memory")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10 * 2**20))
    finding = found("shared memory")
    assert finding.verdict is Verdict.PROBLEM and "10 MiB free" in finding.found


@pytest.mark.parametrize("cuda, advice", [(None, "CUDA build of torch"), ("12.4", "driver")])
def test_a_gpu_that_torch_cannot_use_is_a_problem(
    cuda: str | None, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(machine_checks, "_driver", lambda: "470.1")
    finding = found("GPU")
    assert finding.verdict is Verdict.PROBLEM and advice in finding.advice


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_checks, "_imports", lambda name: name not in ("cv2", "igl"))
    needed, optional = found("needed"), found("igl")
    assert needed.verdict is Verdict.PROBLEM and "cv2" in needed.found
    assert optional.verdict is Verdict.NOTE and "crisp_ros[train]" in optional.advice


def test_open3d_is_named_with_its_build(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = found("open3d")
    assert finding.verdict is Verdict.FINE and " build" in finding.found
    monkeypatch.setitem(sys.modules, "open3d", None)
    finding = found("open3d")
    assert finding.verdict is Verdict.PROBLEM and "pip install open3d-cpu" in finding.advice


def test_a_missing_model_is_a_problem(tmp_path: Path) -> None:
    (finding,) = model_findings(lambda: tmp_path / "none.safetensors", "cpu")
    assert finding.verdict is Verdict.PROBLEM and "none.safetensors" in finding.found


def test_versions_of_distributions_are_found() -> None:
    assert distribution_version("numpy") and distribution_version("no-such-package") is None
