"""A compact network of colour made into one that sees mask and geometry as well."""

from __future__ import annotations

import dataclasses

import torch

from crisp_ros.network.model import CrispNetwork

_WIDER = {"compact": "compact_rgbd"}


def colour_design(design: str) -> str | None:
    """The design of colour that a design with geometry begins as; None where there is none."""
    return next((colour for colour, wide in _WIDER.items() if wide == design), None)


def widen_to_geometry(network: CrispNetwork) -> CrispNetwork:
    """Build a network with geometry channels that begins as a network of colour.

    Weights of what geometry adds to a layer's input are zero, so that at first the new network
    answers as the old one does, whatever the geometry; the geometry's own layers are random.

    Args:
        network: of the design compact.

    Returns:
        A network of the design compact_rgbd on the same device; shares no memory with `network`.

    Raises:
        ValueError: a network of another design.
    """
    design = network.config.design
    if design not in _WIDER:
        raise ValueError(f"network {design!r}: expected one of {tuple(_WIDER)}")
    wide = CrispNetwork(dataclasses.replace(network.config, design=_WIDER[design]))
    wide = wide.to(next(network.parameters()).device)
    state = wide.state_dict()
    with torch.no_grad():
        for name, weight in network.state_dict().items():
            if weight.shape == state[name].shape:
                state[name].copy_(weight)
            else:
                state[name].zero_()[:, : weight.shape[1]] = weight
    return wide
