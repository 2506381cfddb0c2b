"""Rules of a parameter: when it can be set, and to which values."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from typing import Any

from crisp_ros.validation import Range


class Settable(enum.Enum):
    """Lifecycle states in which a parameter can be set."""

    ALWAYS = frozenset({"unconfigured", "inactive", "active"})
    UNLESS_ACTIVE = frozenset({"unconfigured", "inactive"})
    UNCONFIGURED = frozenset({"unconfigured"})

    @property
    def advice(self) -> str:
        """Advice on when such a parameter can be set, and how to reach such a state."""
        return {
            Settable.ALWAYS: "Can be set at any time.",
            Settable.UNLESS_ACTIVE: "Can be set while the node is not active: deactivate it first.",
            Settable.UNCONFIGURED: "Can be set before the node is configured: clean it up first.",
        }[self]


@dataclasses.dataclass(frozen=True)
class Rules:
    """Rules of a parameter.

    Attributes:
        description: shown to users.
        settable: when it can be set.
        range: of a number, None for other types.
        problem: describes why a value is refused, or returns None.
    """

    description: str
    settable: Settable
    range: Range | None = None
    problem: Callable[[Any], str | None] = lambda value: None


def parameter(
    default: Any,
    description: str,
    settable: Settable = Settable.ALWAYS,
    low: float | None = None,
    high: float | None = None,
    problem: Callable[[Any], str | None] = lambda value: None,
) -> Any:
    """Declare a dataclass field for a parameter; see `Rules`.

    Args:
        default: of the parameter.
        description: shown to users.
        settable: when it can be set.
        low: least value of a number.
        high: greatest value of a number.
        problem: describes why a value is refused, or returns None.
    """
    allowed = None if low is None or high is None else Range(low, high)
    rules = Rules(description, settable, allowed, problem)
    return dataclasses.field(default=default, metadata={"rules": rules})


def problem_of(parse: Callable[[str], Any]) -> Callable[[str], str | None]:
    """Convert a function that raises ValueError to one that returns its text, or None."""

    def problem(value: str) -> str | None:
        try:
            parse(value)
        except ValueError as error:
            return str(error)
        return None

    return problem


def one_of(*choices: str) -> Callable[[str], str | None]:
    """Create a rule that refuses all texts but the choices."""

    def problem(value: str) -> str | None:
        return None if value in choices else f"{value!r} is not one of {', '.join(choices)}"

    return problem
