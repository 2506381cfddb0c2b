"""Findings about a machine and what runs on it: verdicts with the advice that goes with them."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Verdict(Enum):
    """Severity of a finding."""

    FINE = "fine"
    NOTE = "note"  # works, but a user may want to know
    PROBLEM = "problem"  # must be fixed


class Finding(NamedTuple):
    """One thing that was looked at. advice: what to do, "" where nothing is to be done."""

    area: str
    name: str
    verdict: Verdict
    found: str
    advice: str = ""


def fine(area: str, name: str, found: str) -> Finding:
    """Nothing to do."""
    return Finding(area, name, Verdict.FINE, found)


def note(area: str, name: str, found: str, advice: str) -> Finding:
    """Return a finding that works, with a remark."""
    return Finding(area, name, Verdict.NOTE, found, advice)


def problem(area: str, name: str, found: str, advice: str) -> Finding:
    """Return a finding that does not work."""
    return Finding(area, name, Verdict.PROBLEM, found, advice)
