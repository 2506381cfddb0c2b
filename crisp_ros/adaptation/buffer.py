"""A buffer of certified samples, balanced over objects and viewpoints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from crisp_ros.adaptation.samples import Sample
from crisp_ros.adaptation.tensor_file import (
    TensorFileError,
    encode_tensor_file,
    read_tensor_file,
)
from crisp_ros.data.atomic_file import write_atomically

_FORMAT = "crisp_ros_samples_1"
_TENSORS = ("crop", "grid", "points", "T_object_camera", "code")


class SampleFileError(ValueError):
    """A buffer file that cannot be used."""


class SampleBuffer:
    """At most `capacity` samples.

    A full buffer drops a sample of the object with the most samples: the older one of the object's
    two nearest viewpoints. While a robot looks at one object only, the buffer keeps samples of the
    others and of all sides of this one.
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
        """Memory of the samples' tensors, bytes."""
        return sum(getattr(s, name).nbytes for s in self._samples for name in _TENSORS)

    def add(self, sample: Sample) -> None:
        """Add a sample as the newest one."""
        self._samples.append(sample)
        if len(self._samples) > self.capacity:
            del self._samples[self._least_useful()]

    def clear(self) -> None:
        """Remove all samples."""
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

    def _least_useful(self) -> int:
        counts = Counter(sample.key for sample in self._samples)
        most = max(counts.values())
        # Of objects with equal numbers of samples, the one that was seen least recently.
        key = next(s.key for s in self._samples if counts[s.key] == most)
        rows = [i for i, sample in enumerate(self._samples) if sample.key == key]
        if len(rows) == 1:
            return rows[0]
        views = torch.stack([self._samples[i].view for i in rows])
        closeness = (views @ views.T).fill_diagonal_(-torch.inf)
        older = int(closeness.argmax()) // len(rows)  # the first of the pair in reading order
        return rows[older]


def save_samples(path: Path | str, samples: Iterable[Sample], model: str) -> None:
    """Write samples atomically.

    Args:
        path: of the file.
        samples: of a buffer, or waiting for a training step.
        model: checksum of the model that self-training started from.

    Raises:
        OSError: the file cannot be written.
    """
    kept = list(samples)
    tensors = {
        name: torch.stack([getattr(sample, name) for sample in kept]) for name in _TENSORS if kept
    }
    flags = [s.certified for s in kept]
    header = {"model": model, "keys": [s.key for s in kept], "certified": flags}
    write_atomically(Path(path), encode_tensor_file(_FORMAT, header, tensors))


def load_samples(path: Path | str, model: str, capacity: int = 50) -> SampleBuffer:
    """Read samples written by `save_samples` into a buffer.

    Raises:
        SampleFileError: the file is missing, damaged, of another format or of another model.
    """
    buffer = SampleBuffer(capacity)
    for sample in read_samples(path, model):
        buffer.add(sample)
    return buffer


def read_samples(path: Path | str, model: str) -> list[Sample]:
    """Read samples written by `save_samples`, in their order.

    Raises:
        SampleFileError: the file is missing, damaged, of another format or of another model.
    """
    path = Path(path)
    try:
        header, tensors = read_tensor_file(path, _FORMAT)
    except TensorFileError as error:
        raise SampleFileError(f"sample file {path}: {error}") from error
    if header["model"] != model:
        raise SampleFileError(f"sample file {path}: of model {header['model']}, not of {model}")
    return [
        Sample(key, certified, *(tensors[name][i].clone() for name in _TENSORS))
        for i, (key, certified) in enumerate(zip(header["keys"], header["certified"], strict=True))
    ]


def samples_path(checkpoint: Path) -> Path:
    """Return the path of the samples of a self-trained model: next to its file."""
    return checkpoint.with_name(
        checkpoint.name.removesuffix(".safetensors") + ".samples.safetensors"
    )
