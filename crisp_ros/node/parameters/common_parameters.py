"""Parameters that several nodes declare alike."""

from __future__ import annotations

from typing import Any

from crisp_ros.node.parameters.parameter_rules import Settable, one_of, parameter


def autostart_parameter() -> Any:
    """Declare whether a node starts without a lifecycle manager."""
    return parameter(
        False,
        "The node configures and activates itself at startup; if false, a lifecycle manager "
        "must. Changing it later has no effect.",
        Settable.UNCONFIGURED,
    )


def colour_transport_parameter() -> Any:
    """Declare the transport of colour images."""
    return parameter(
        "raw",
        "Transport of colour images: raw; or compressed (JPEG or PNG on TOPIC/compressed).",
        Settable.UNLESS_ACTIVE,
        problem=one_of("raw", "compressed"),
    )


def depth_transport_parameter() -> Any:
    """Declare the transport of depth images."""
    return parameter(
        "raw",
        "Transport of depth images: raw; compressed (16-bit PNG on TOPIC/compressed); or "
        "compressedDepth (on TOPIC/compressedDepth).",
        Settable.UNLESS_ACTIVE,
        problem=one_of("raw", "compressed", "compressedDepth"),
    )
