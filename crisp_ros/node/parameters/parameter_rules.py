"""What holds for a parameter: when it can be set, and to what."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from typing import Any


class Settable(enum.Enum):
    """The lifecycle states in which a parameter can be set."""

    ALWAYS = frozenset({"unconfigured", "inactive", "active"})
    UNLESS_ACTIVE = frozenset({"unconfigured", "inactive"})
    UNCONFIGURED = frozenset({"unconfigured"})

    @property
    def advice(self) -> str:
        """When such a parameter can be set, and what to do to set it now."""
        return {
            Settable.ALWAYS: "Can be set at any time.",
            Settable.UNLESS_ACTIVE: "Can be set while the node is not active: deactivate it first.",
            Settable.UNCONFIGURED: "Can be set before the node is configured: clean it up first.",
        }[self]


@dataclasses.dataclass(frozen=True)
class Rules:
    """What holds for a parameter.

    Attributes:
        description: what it is for.
        settable: when it can be set.
        low, high: of a number.
        problem: what is wrong with a value, or None.
    """

    description: str
    settable: Settable
    low: float | None = None
    high: float | None = None
    problem: Callable[[Any], str | None] = lambda value: None


def parameter(
    default: Any,
    description: str,
    settable: Settable = Settable.ALWAYS,
    low: float | None = None,
    high: float | None = None,
    problem: Callable[[Any], str | None] = lambda value: None,
) -> Any:
    """A dataclass field for a parameter; see `Rules`."""
    found = Rules(description, settable, low, high, problem)
    return dataclasses.field(default=default, metadata={"rules": found})


def problem_of(parse: Callable[[str], Any]) -> Callable[[str], str | None]:
    """Turns a function that raises ValueError into one that returns the text, or None."""

    def problem(value: str) -> str | None:
        try:
            parse(value)
        except ValueError as error:
            return str(error)
        return None

    return problem


def one_of(*choices: str) -> Callable[[str], str | None]:
    """Refuses any other text."""

    def problem(value: str) -> str | None:
        return None if value in choices else f"{value!r} is not one of {', '.join(choices)}"

    return problem
