"""Lifecycle state of the node, shared by its parts."""

from __future__ import annotations

from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus
from diagnostic_updater import DiagnosticStatusWrapper


@dataclass
class NodeState:
    """Lifecycle state of the node.

    Attributes:
        label: of the lifecycle state.
        problem: why the last transition failed, or "".
        is_enabled: whether frames are estimated as they arrive (`~/enable`).
    """

    label: str = "unconfigured"
    problem: str = ""
    is_enabled: bool = True

    @property
    def is_configured(self) -> bool:
        """Whether the node has a model."""
        return self.label in ("inactive", "active")

    @property
    def inactive_reason(self) -> str:
        """Why no frame is estimated, "" while the node is active."""
        return "" if self.label == "active" else f"the node is {self.label}: activate it first"

    def enter(self, label: str) -> None:
        """Record a successful transition."""
        self.label, self.problem = label, ""

    def report(self, stat: DiagnosticStatusWrapper) -> DiagnosticStatusWrapper:
        """Fill in the diagnostic status."""
        if self.problem:
            stat.summary(DiagnosticStatus.ERROR, f"{self.label}: {self.problem}")
        else:
            stat.summary(DiagnosticStatus.OK, self.label)
        return stat
