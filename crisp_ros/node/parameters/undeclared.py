"""Parameters that a node was given but does not have: misspelled, or meant for another node."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from rclpy.node import Node

from crisp_ros.data.plain_yaml import parse_yaml

_OF_PARAMETERS = "ros__parameters"
_DECLARED_LATER = ("qos_overrides.", "diagnostic_updater.")


def warn_of_undeclared(
    node: Node, arguments: Sequence[str] | None = None, others: Sequence[Node] = ()
) -> None:
    """Log a warning for each parameter and parameter file that has no effect on a node.

    Args:
        node: with all of its parameters declared.
        arguments: of the process; None: sys.argv.
        others: nodes of the same process, which get the same parameters.
    """
    for text in undeclared(node, sys.argv if arguments is None else arguments, others):
        node.get_logger().warning(text)


def undeclared(node: Node, arguments: Sequence[str], others: Sequence[Node] = ()) -> list[str]:
    """Describe the parameters and parameter files that have no effect on a node or the others.

    Args:
        node: with all of its parameters declared.
        arguments: of the process.
        others: nodes of the same process.
    """
    # rclpy offers no other way to what it was given.
    given: Mapping[str, Any] = getattr(node, "_parameter_overrides", {})
    unknown = [
        name
        for name in sorted(given)
        if not any(each.has_parameter(name) for each in (node, *others))
        and not name.startswith(_DECLARED_LATER)
    ]
    declared = [name for name in node.get_parameters_by_prefix("") if name]
    texts = [*_mappings(given, unknown, declared)]
    for name in unknown:
        if name.split(".")[0] in declared:
            continue
        near = get_close_matches(name, declared, n=1)
        hint = f"; did you mean {near[0]}?" if near else f" (see ros2 param list {_name(node)})"
        texts.append(f"there is no parameter {name}: it has no effect{hint}")
    return [*texts, *_foreign_files(node, arguments, others)]


def _mappings(
    given: Mapping[str, Any], unknown: Sequence[str], declared: Sequence[str]
) -> Iterator[str]:
    """Describe single values that were given as mappings, which arrive as NAME.KEY."""
    for base in dict.fromkeys(name.split(".")[0] for name in unknown if "." in name):
        if base in declared:
            pairs = [
                f"{name.removeprefix(f'{base}.')}={given[name].value}"
                for name in unknown
                if name.startswith(f"{base}.")
            ]
            yield (
                f"{base} is one value, not a mapping, and keeps its default: "
                f'write {base}: "{", ".join(pairs)}"'
            )


def _foreign_files(node: Node, arguments: Sequence[str], others: Sequence[Node]) -> Iterator[str]:
    """Describe parameter files that name nodes of other processes alone."""
    name, own = _name(node), [_name(each) for each in (node, *others)]
    for flag, path in zip(arguments, arguments[1:], strict=False):
        if flag != "--params-file":
            continue
        content = _parameters_of(Path(path))
        names = list(_node_names(content, ""))
        if names and not any(_matches(pattern, each) for pattern in names for each in own):
            yield (
                f"{path} has no parameters for {name}: it has some for {', '.join(names)}; "
                f"name the node {name.lstrip('/')} there, or /** for all nodes"
            )


def _parameters_of(path: Path) -> Any:
    """Read a parameter file, None where that is not possible: rcl has refused it already."""
    try:
        return parse_yaml(path.read_text())
    except (OSError, ValueError):
        return None


def _node_names(content: Any, before: str) -> Iterator[str]:
    """Yield the names of all nodes in a parameter file, namespaces first."""
    if not isinstance(content, Mapping):
        return
    for key, value in content.items():
        if key == _OF_PARAMETERS:
            yield before or "/"
        else:
            yield from _node_names(value, f"{before}/{str(key).strip('/')}")


def _matches(pattern: str, name: str) -> bool:
    """Whether a name in a parameter file is that of a node; * is one part of it, ** any number."""
    parts = [
        ".*" if part == "**" else "[^/]+" if part == "*" else re.escape(part)
        for part in pattern.strip("/").split("/")
    ]
    separator = "/?" if "**" in pattern else "/"
    return re.fullmatch(separator.join(parts), name.strip("/")) is not None


def _name(node: Node) -> str:
    return node.get_fully_qualified_name()
