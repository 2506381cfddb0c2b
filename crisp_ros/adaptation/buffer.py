"""The buffer of certified samples: the newest, balanced over objects and viewpoints."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch

from crisp_ros.adaptation.samples import Sample
from crisp_ros.data.atomic_file import write_atomically
from crisp_ros.network.checkpoint import digest

_FORMAT = "crisp_ros_samples_1"
_TENSORS = ("crop", "grid", "points", "T_object_camera", "code")


class BufferError(ValueError):
    """A buffer file that cannot be used; says which and why."""


class SampleBuffer:
    """At most `capacity` samples; a full one gives up what it has most of.

    The object with most samples loses one: of its two nearest viewpoints the older. So a robot that
    stares at one thing keeps what it learned of the others, and every side of it.
    """

    def __init__(self, capacity: int = 50) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}: expected at least 1")
        self.capacity = capacity
        self._samples: list[Sample] = []  # oldest first

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._samples)

    @property
    def nbytes(self) -> int:
        """Memory of the samples' tensors."""
        return sum(getattr(s, name).nbytes for s in self._samples for name in _TENSORS)

    def add(self, sample: Sample) -> None:
        """Take a sample in as the newest."""
        self._samples.append(sample)
        if len(self._samples) > self.capacity:
            del self._samples[self._least_needed()]

    def clear(self) -> None:
        """Forget all samples."""
        self._samples.clear()

    def draw(self, count: int, rng: np.random.Generator) -> list[Sample]:
        """Draw up to `count` distinct samples, balanced over the objects."""
        order = rng.permutation(len(self._samples))
        seen: Counter[str] = Counter()
        ranked = []
        for place, index in enumerate(order):
            key = self._samples[index].key
            ranked.append((seen[key], place, index))
            seen[key] += 1
        return [self._samples[index] for _, _, index in sorted(ranked)[:count]]

    def _least_needed(self) -> int:
        counts = Counter(sample.key for sample in self._samples)
        most = max(counts.values())
        # Of objects with equally many samples, the one that was seen least recently.
        key = next(s.key for s in self._samples if counts[s.key] == most)
        rows = [i for i, sample in enumerate(self._samples) if sample.key == key]
        if len(rows) == 1:
            return rows[0]
        views = torch.stack([self._samples[i].view for i in rows])
        closeness = (views @ views.T).fill_diagonal_(-torch.inf)
        older = int(closeness.argmax()) // len(rows)  # the first of the pair in reading order
        return rows[older]


def save_samples(path: Path | str, samples: SampleBuffer, model: str) -> None:
    """Write a buffer; a kill at any moment leaves the old file or the new one.

    Args:
        model: whose codes they are: the name of the model that self-training began with.

    Raises:
        OSError: the file cannot be written.
    """
    kept = list(samples)
    tensors = {
        name: torch.stack([getattr(sample, name) for sample in kept]) for name in _TENSORS if kept
    }
    header = json.dumps(
        {"model": model, "keys": [s.key for s in kept], "certified": [s.certified for s in kept]}
    )
    metadata = {"format": _FORMAT, "header": header, "sha256": digest(header, tensors)}
    write_atomically(Path(path), safetensors.torch.save(tensors, metadata))


def load_samples(path: Path | str, model: str, capacity: int = 50) -> SampleBuffer:
    """Read what `save_samples` wrote.

    Raises:
        BufferError: the file is missing, damaged, of another format or of another model.
    """
    path = Path(path)
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, safetensors.SafetensorError) as error:
        raise BufferError(f"sample file {path}: {error}") from error
    header = metadata.get("header", "")
    if metadata.get("format") != _FORMAT or digest(header, tensors) != metadata.get("sha256"):
        raise BufferError(f"sample file {path}: damaged, or not one of this version")
    values = json.loads(header)
    if values["model"] != model:
        raise BufferError(f"sample file {path}: of model {values['model']}, not of {model}")
    buffer = SampleBuffer(capacity)
    for i, (key, certified) in enumerate(zip(values["keys"], values["certified"], strict=True)):
        buffer.add(Sample(key, certified, *(tensors[name][i].clone() for name in _TENSORS)))
    return buffer
