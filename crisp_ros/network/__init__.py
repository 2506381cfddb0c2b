"""The CRISP network: backbones, PNC head, shape head, shape decoder, checkpoints, code library."""

from crisp_ros.network.model import (
    CrispNetwork,
    NetworkConfig,
    NetworkOutput,
    build_network,
    network_config,
    network_names,
)

__all__ = [
    "CrispNetwork",
    "NetworkConfig",
    "NetworkOutput",
    "build_network",
    "network_config",
    "network_names",
]
