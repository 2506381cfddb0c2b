"""Continuation of a stopped run: what may change and what must not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ANY = ("save_every", "evaluate_every")
_NO_LESS = ("steps", "epochs")
_MOST_NAMES = 8


def continued(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The training settings `before`, with those values of `after` that a continuation may have.

    It may save and evaluate as often as it likes, and take more steps or epochs, not fewer.

    Args:
        before, after: fields of `TrainingSettings`, as JSON values.
    """
    taken = {key: after[key] for key in _ANY}
    for key in _NO_LESS:
        if before.get(key) is not None and after[key] is not None and after[key] >= before[key]:
            taken[key] = after[key]
    return {**before, **taken}


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Names of the values in which two JSON mappings differ, nested ones with dots; "" for none."""
    names = _differing(before, after, "")
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _differing(before: Any, after: Any, name: str) -> list[str]:
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
        return [] if before == after else [name]
    return [
        found
        for key in sorted({*before, *after})
        for found in _differing(before.get(key), after.get(key), f"{name}.{key}".lstrip("."))
    ]
