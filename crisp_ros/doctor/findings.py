"""Findings about a machine and its software, with advice."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Verdict(Enum):
    """Severity of a finding."""

    FINE = "fine"
    NOTE = "note"  # works with a limitation
    PROBLEM = "problem"  # must be fixed


class Finding(NamedTuple):
    """Result of one check.

    Attributes:
        area: group of the check, such as "machine".
        name: of the check.
        verdict: severity.
        found: the facts.
        advice: how to fix the problem, "" if there is none.
    """

    area: str
    name: str
    verdict: Verdict
    found: str
    advice: str = ""


def fine(area: str, name: str, found: str) -> Finding:
    """Return a finding without a problem."""
    return Finding(area, name, Verdict.FINE, found)


def note(area: str, name: str, found: str, advice: str) -> Finding:
    """Return a finding with a limitation."""
    return Finding(area, name, Verdict.NOTE, found, advice)


def problem(area: str, name: str, found: str, advice: str) -> Finding:
    """Return a finding with a problem."""
    return Finding(area, name, Verdict.PROBLEM, found, advice)
