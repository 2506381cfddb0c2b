"""The documentation's page of the node's parameters, docs/parameters.md.

python -m crisp_ros.node.parameters.parameter_page > docs/parameters.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import fields

from crisp_ros.node.parameters.node_parameters import SECTIONS, Parameters, limits, rules
from crisp_ros.node.parameters.parameter_rules import Settable

_HEAD = """\
# Parameters of crisp_node

Written by `python -m crisp_ros.node.parameters.parameter_page`, from the descriptions that
`ros2 param describe` shows. `config/crisp.yaml` holds the same, ready to be edited.

A value is checked before it applies, and refused with the reason. *Set* says when a parameter can
be set: **always**, also while the node works; **idle**, while it is not active
(`ros2 lifecycle set /crisp deactivate`); **start**, before it is configured
(`ros2 lifecycle set /crisp cleanup`).
"""
_TAIL = """
## Of ROS 2 itself

| Name | Default | Set | Meaning |
|---|---|---|---|
| `use_sim_time` | `false` | always | Take the time from /clock: for recordings and simulations. |
| `diagnostic_updater.period` | `1.0` | start | Seconds between messages on /diagnostics. |
| `qos_overrides.TOPIC.subscription.POLICY`, `qos_overrides.TOPIC.publisher.POLICY` | | start | \
Quality of service of each topic, by its resolved name; POLICY is `reliability`, `history` or \
`depth`. Inputs are best effort, of depth 5. |
"""
_WHEN = {
    Settable.ALWAYS: "always",
    Settable.UNLESS_ACTIVE: "idle",
    Settable.UNCONFIGURED: "start",
}


def page() -> str:
    """The page, as Markdown."""
    return _HEAD + "".join(_sections()) + _TAIL


def _sections() -> Iterator[str]:
    for field in fields(Parameters):
        if field.name in SECTIONS:
            yield f"\n## {SECTIONS[field.name]}\n\n"
            yield "| Name | Default | Range | Set | Meaning |\n|---|---|---|---|---|\n"
        low_high = limits(field.name)
        cells = (
            f"`{field.name}`",
            f"`{_written(field.default)}`",
            "" if low_high is None else f"{low_high[0]:g} to {low_high[1]:g}",
            _WHEN[rules(field.name).settable],
            rules(field.name).description.replace("|", "\\|"),
        )
        yield f"| {' | '.join(cells)} |\n"


def _written(value: object) -> str:
    """As YAML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


if __name__ == "__main__":
    sys.stdout.write(page())
