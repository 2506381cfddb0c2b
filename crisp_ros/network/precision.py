"""Precision of a network's arithmetic: which a device has, and which is the fastest on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import nn

Precision = Literal["auto", "float32", "bfloat16", "float16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)

_CPU_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # of x86 and of ARM
_CPU_INFO = Path("/proc/cpuinfo")
_WORTHWHILE = 0.85  # a lower precision has to take at most this share of the time
_ROUNDS = 4
_LONGEST_S = 2.0  # of the measurement, after the first round


def native_precisions(device: torch.device) -> tuple[Precision, ...]:
    """The precisions that a device computes in without emulation, the most accurate first."""
    if device.type == "cuda":
        with_bfloat16 = torch.cuda.get_device_capability(device) >= (8, 0)
        return ("float32", "float16", *(("bfloat16",) if with_bfloat16 else ()))
    return ("float32", "bfloat16") if _cpu_has_bfloat16() else ("float32",)


@contextmanager
def in_precision(precision: Precision, device: torch.device) -> Iterator[None]:
    """Run networks in a precision; "auto", before it was measured, is float32."""
    lower = precision not in ("auto", "float32")
    dtype = getattr(torch, precision) if lower else torch.bfloat16
    with torch.autocast(device.type, dtype, enabled=lower):
        yield


def in_fast_layout(network: nn.Module) -> nn.Module:
    """Store the weights as convolutions on a CPU are fast: channels of a pixel side by side."""
    if any(parameter.device.type != "cpu" for parameter in network.parameters()):
        return network
    return network.to(memory_format=torch.channels_last)


def fastest_precision(
    infer: Callable[[Precision], bool],
    device: torch.device,
    clock: Callable[[], float] | None = None,
) -> Precision:
    """Measure which precision is the fastest; a lower one only if it saves 15 % of the time.

    The precisions run alternately, and the shortest time of each counts, so that other work of the
    machine decides nothing; on a CPU, for the same reason, it is the processor's time.

    Args:
        infer: runs the network in a precision, and returns whether the answer is finite.
        device: on which it runs.
        clock: seconds; by default as above.
    """
    clock = clock or (time.perf_counter if device.type == "cuda" else time.process_time)
    possible = native_precisions(device)
    if len(possible) == 1:
        return possible[0]
    possible = tuple(precision for precision in possible if infer(precision))
    shortest = dict.fromkeys(possible, float("inf"))
    begin = clock()
    for _ in range(_ROUNDS):
        for precision in possible:
            start = clock()
            infer(precision)
            shortest[precision] = min(shortest[precision], clock() - start)
        if clock() - begin > _LONGEST_S:
            break
    best: Precision = "float32"
    for precision in possible:
        if shortest[precision] < _WORTHWHILE * shortest.get(best, float("inf")):
            best = precision
    return best


def _cpu_has_bfloat16() -> bool:
    try:
        lines = _CPU_INFO.read_text().splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return not _CPU_FLAGS.isdisjoint(flags.split())
