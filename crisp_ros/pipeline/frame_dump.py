"""One frame with everything its estimate depends on, in one file: to repeat it elsewhere.

The file is of safetensors, which holds arrays and JSON, and runs nothing when it is read.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from crisp_ros.data.atomic_file import write_atomically
from crisp_ros.observation.frame import Camera, Frame, FrameError
from crisp_ros.observation.observe import Rejected
from crisp_ros.pipeline import EstimatorSettings, FrameEstimate, ObjectEstimate
from crisp_ros.pipeline.added_shapes import ExpectedObject
from crisp_ros.pipeline.prior_replay import KnownShape, PriorContext

SUFFIX = ".safetensors"
_FORMAT = "crisp_ros frame 1"
_IMAGES = ("rgb", "depth", "labels")
# Of an ObjectEstimate: what is an array goes into the file as one, by object.
_ARRAYS = ("T_camera_object", "code", "lower", "upper", "covariance")
_KNOWN_ARRAYS = ("starts", "latent")  # of a KnownShape, likewise

T = TypeVar("T")


class FrameDumpError(ValueError):
    """A file that is no frame dump, or not a whole one."""


@dataclass(frozen=True, eq=False)
class FrameDump:
    """A frame and its estimate.

    Attributes:
        frame: what the estimator was given.
        estimate: what it answered, before any tracking.
        settings: of the estimator.
        checkpoint: model file, as far as known; its version is `estimate.model_version`.
        device: of the estimator, such as "cpu".
        threads: of PyTorch; with another number the last bits may differ.
        context: further JSON values to be read by people: messages, parameters, versions.
        prior_checkpoint: file of the prior for unknown objects, as far as known; "" for none.
        prior_version: of that model; "" for none.
        expected: objects of the frame before, which the estimator did not search again.
        prior_context: what it knew of the objects under a prior; None for a lone image.
    """

    frame: Frame
    estimate: FrameEstimate
    settings: EstimatorSettings
    checkpoint: str
    device: str
    threads: int
    context: Mapping[str, Any]
    prior_checkpoint: str = ""
    prior_version: str = ""
    expected: tuple[ExpectedObject, ...] = ()
    prior_context: PriorContext | None = None

    def write(self, path: Path) -> None:
        """Write the file; a reader never sees half of it.

        Raises:
            OSError: it cannot be written.
        """
        tensors: dict[str, NDArray[Any]] = {name: getattr(self.frame, name) for name in _IMAGES}
        objects = []
        for i, estimate in enumerate(self.estimate.objects):
            values = {f.name: getattr(estimate, f.name) for f in dataclasses.fields(estimate)}
            del values["hull"]  # it follows from the frame
            for name in _ARRAYS:
                array = values.pop(name)
                if array is not None:
                    tensors[f"objects.{i}.{name}"] = np.ascontiguousarray(array)
            objects.append(values)
        known = self.prior_context.known if self.prior_context is not None else ()
        for i, shape in enumerate(known):
            for name in _KNOWN_ARRAYS:
                tensors[f"known.{i}.{name}"] = getattr(shape, name).cpu().numpy()
        content = {
            "camera": dataclasses.asdict(self.frame.camera),
            "objects": objects,
            "rejected": [list(r) for r in self.estimate.rejected],
            "stage_ms": self.estimate.stage_ms,
            "model_version": self.estimate.model_version,
            "settings": dataclasses.asdict(self.settings),
            "checkpoint": self.checkpoint,
            "device": self.device,
            "threads": self.threads,
            "context": dict(self.context),
            "prior_checkpoint": self.prior_checkpoint,
            "prior_version": self.prior_version,
            "expected": [_plain(known) for known in self.expected],
            "prior_context": _plain_context(self.prior_context),
        }
        metadata = {"format": _FORMAT, "content": json.dumps(content)}
        write_atomically(path, save(tensors, metadata))


def read_frame_dump(path: Path) -> FrameDump:
    """Read what `FrameDump.write` wrote.

    Raises:
        OSError: the file cannot be read.
        FrameDumpError: it is something else, damaged, or of another version of this package.
    """
    with open(path, "rb"):  # says why not, where safetensors does not
        pass
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise FrameDumpError(f"{path}: a safetensors file, but not a dumped frame")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        content = json.loads(metadata["content"])
        frame = Frame(*(tensors[name] for name in _IMAGES), Camera(**content["camera"]))
        objects = []
        for i, values in enumerate(content["objects"]):
            arrays = {name: tensors.get(f"objects.{i}.{name}") for name in _ARRAYS}
            objects.append(ObjectEstimate(**values, **arrays))
        rejected = tuple(Rejected(*entry) for entry in content["rejected"])
        estimate = FrameEstimate(
            tuple(objects), rejected, content["stage_ms"], content["model_version"]
        )
        return FrameDump(
            frame,
            estimate,
            _restored(EstimatorSettings, content["settings"]),
            content["checkpoint"],
            content["device"],
            content["threads"],
            content["context"],
            content.get("prior_checkpoint", ""),  # older files have none
            content.get("prior_version", ""),
            tuple(_expected(values) for values in content.get("expected", ())),
            _prior_context(content.get("prior_context"), tensors),
        )
    except (SafetensorError, FrameError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, FrameDumpError):
            raise
        raise FrameDumpError(f"{path}: not a dumped frame of this version ({error})") from error


def _restored(kind: type[T], values: Mapping[str, Any]) -> T:
    """A settings dataclass of what `dataclasses.asdict` and JSON made of it."""
    hints = typing.get_type_hints(kind)
    return kind(**{name: _restored_value(hints[name], value) for name, value in values.items()})


def _restored_value(hint: Any, value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, dict):
        kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        return _restored(next(k for k in kinds if dataclasses.is_dataclass(k)), value)
    return value


def _plain(known: ExpectedObject) -> dict[str, Any]:
    """An expected object as JSON values."""
    values = known._asdict()
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}


def _expected(values: Mapping[str, Any]) -> ExpectedObject:
    """The object of `_plain`."""
    return ExpectedObject(
        **{k: np.array(v) if isinstance(v, list) else v for k, v in values.items()}
    )


def _plain_context(context: PriorContext | None) -> dict[str, Any] | None:
    """A context as JSON values, without the arrays of its shapes."""
    if context is None:
        return None
    known = [shape._asdict() for shape in context.known]
    scalars = [{k: v for k, v in one.items() if k not in _KNOWN_ARRAYS} for one in known]
    return {"known": scalars, "searched": list(context.searched)}


def _prior_context(
    values: Mapping[str, Any] | None, tensors: Mapping[str, NDArray[Any]]
) -> PriorContext | None:
    """The context of `_plain_context`, with the arrays of a file."""
    if values is None:  # of a lone image, or an older file
        return None
    known = []
    for i, scalars in enumerate(values["known"]):
        arrays = {n: torch.from_numpy(tensors[f"known.{i}.{n}"]) for n in _KNOWN_ARRAYS}
        known.append(KnownShape(**scalars, **arrays))
    return PriorContext(tuple(known), tuple(values["searched"]))
