"""Heads of a network that another thread has trained, and that the next frame uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn


class _Offer(NamedTuple):
    """Heads for the next frame.

    Attributes:
        heads: parameters by name.
        version: of the model with them.
        ready: on a GPU, when they are written.
    """

    heads: Mapping[str, Tensor]
    version: str
    ready: torch.cuda.Event | None


class AdoptedHeads:
    """The latest heads that were offered to a network."""

    def __init__(self) -> None:
        """Start without any."""
        self._offer: _Offer | None = None

    def offer(self, heads: Mapping[str, Tensor], version: str, device: torch.device) -> None:
        """Offer heads; from any thread.

        Args:
            heads: parameters by name; not changed later.
            version: of the model with them.
            device: of the network.
        """
        ready = None
        if device.type == "cuda":  # the caller's stream may still be writing the weights
            ready = torch.cuda.Event()
            ready.record(torch.cuda.current_stream(device))
        self._offer = _Offer(heads, version, ready)

    def taken_into(self, network: nn.Module, version: str) -> str:
        """Copy the heads into a network of a version, unless it has them; return its version."""
        offer = self._offer
        if offer is None or offer.version == version:
            return version
        parameters = dict(network.named_parameters())
        if offer.ready is not None:
            stream = torch.cuda.current_stream(next(iter(parameters.values())).device)
            stream.wait_event(offer.ready)
            for value in offer.heads.values():
                value.record_stream(stream)  # their memory is not used again before the copy
        for name, value in offer.heads.items():
            parameters[name].copy_(value)
        return offer.version
