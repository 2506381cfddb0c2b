"""The node's parameters: each with a description and a range, checked before it applies."""

from __future__ import annotations

import dataclasses
import enum
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import torch
from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from crisp_ros.geometry.convex import can_decompose
from crisp_ros.node.output_paths import output_directory


class Settable(enum.Enum):
    """The lifecycle states in which a parameter can be set."""

    ALWAYS = frozenset({"unconfigured", "inactive", "active"})
    UNLESS_ACTIVE = frozenset({"unconfigured", "inactive"})
    UNCONFIGURED = frozenset({"unconfigured"})

    @property
    def advice(self) -> str:
        """When such a parameter can be set, and what to do to set it now."""
        return {
            Settable.ALWAYS: "Can be set at any time.",
            Settable.UNLESS_ACTIVE: "Can be set while the node is not active: deactivate it first.",
            Settable.UNCONFIGURED: "Can be set before the node is configured: clean it up first.",
        }[self]


@dataclasses.dataclass(frozen=True)
class Rules:
    """What holds for a parameter.

    Attributes:
        description: what it is for.
        settable: when it can be set.
        low, high: of a number.
        problem: what is wrong with a value, or None.
    """

    description: str
    settable: Settable
    low: float | None = None
    high: float | None = None
    problem: Callable[[Any], str | None] = lambda value: None


def _parameter(
    default: Any,
    description: str,
    settable: Settable = Settable.ALWAYS,
    low: float | None = None,
    high: float | None = None,
    problem: Callable[[Any], str | None] = lambda value: None,
) -> Any:
    found = Rules(description, settable, low, high, problem)
    return dataclasses.field(default=default, metadata={"rules": found})


def label_names(text: str) -> dict[int, str]:
    """Names of labels, from "1=mug, 2=bowl".

    Raises:
        ValueError: an entry is not LABEL=NAME with a positive label, or a label comes twice.
    """
    names: dict[int, str] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        number, _, name = (part.strip() for part in entry.partition("="))
        if not (number.isdecimal() and int(number) > 0 and name):
            raise ValueError(f"{entry!r} is not LABEL=NAME, such as 1=mug")
        if int(number) in names:
            raise ValueError(f"label {number} is named twice")
        names[int(number)] = name
    return names


def resolved_device(name: str) -> torch.device:
    """The device of a name; "auto" is the first GPU where there is one, else the CPU.

    Raises:
        ValueError: no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ValueError(f"{name!r} is not a device: expected auto, cpu, cuda or cuda:N")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"no device {name}: this machine has {torch.cuda.device_count()} GPUs")
    return device


def _problem_of(parse: Callable[[str], Any]) -> Callable[[str], str | None]:
    """Turns a function that raises ValueError into one that returns the text, or None."""

    def problem(value: str) -> str | None:
        try:
            parse(value)
        except ValueError as error:
            return str(error)
        return None

    return problem


def _one_of(*choices: str) -> Callable[[str], str | None]:
    """Refuses any other text."""

    def problem(value: str) -> str | None:
        return None if value in choices else f"{value!r} is not one of {', '.join(choices)}"

    return problem


def _tf_prefix_problem(prefix: str) -> str | None:
    if re.fullmatch(r"([A-Za-z0-9_][A-Za-z0-9_/.-]*)?", prefix):
        return None
    return f"{prefix!r} cannot begin a TF frame: letters, digits and _ / . - only, no leading /"


def _frame_problem(name: str) -> str | None:
    if not name.startswith("/") and name == name.strip():
        return None
    return f"{name!r} is not a TF frame: no leading /, no spaces around"


def _collision_shape_problem(shape: str) -> str | None:
    if shape == "parts" and not can_decompose():
        return "'parts' needs CoACD: pip install coacd"
    return _one_of("mesh", "hull", "parts")(shape)


@dataclasses.dataclass(frozen=True)
class Parameters:
    """All parameters of the node, with their defaults."""

    checkpoint: str = _parameter(
        "",
        "Model file (.safetensors). Empty: the model that comes with the package.",
        Settable.UNCONFIGURED,
    )
    device: str = _parameter(
        "auto",
        "Where the network runs: auto (a GPU where there is one), cpu, cuda or cuda:N.",
        Settable.UNCONFIGURED,
        problem=_problem_of(resolved_device),
    )
    threads: int = _parameter(
        0, "CPU threads of the estimator; 0: one a core.", Settable.UNCONFIGURED, 0, 256
    )
    image_transport: str = _parameter(
        "raw",
        "How colour images come: raw; or compressed, as JPEG or PNG on TOPIC/compressed.",
        Settable.UNLESS_ACTIVE,
        problem=_one_of("raw", "compressed"),
    )
    depth_image_transport: str = _parameter(
        "raw",
        "How depth images come: raw; compressed, as 16-bit PNG on TOPIC/compressed; or "
        "compressedDepth, on TOPIC/compressedDepth.",
        Settable.UNLESS_ACTIVE,
        problem=_one_of("raw", "compressed", "compressedDepth"),
    )
    segmentation_image_transport: str = _parameter(
        "raw",
        "How label images come: raw; or compressed, as PNG on TOPIC/compressed.",
        Settable.UNLESS_ACTIVE,
        problem=_one_of("raw", "compressed"),
    )
    segmentation_format: str = _parameter(
        "labels",
        "What the segmentation holds. labels: an image whose values are objects. "
        "category_instance: a 32SC1 image of (category << 16) | instance. instance_category: of "
        "(instance << 16) | category. detections: boxes, a vision_msgs/Detection2DArray on "
        "detections, inside which the depth tells object from background.",
        Settable.UNLESS_ACTIVE,
        problem=_one_of("labels", "category_instance", "instance_category", "detections"),
    )
    detection_score: float = _parameter(
        0.0, "Boxes whose best hypothesis has a lower score are left out.", low=0.0, high=1.0
    )
    rectified: bool = _parameter(
        True,
        "Images are rectified, and camera_info's P describes them. False: raw images, described by "
        "K and D, which the node rectifies.",
    )
    sync_slop: float = _parameter(
        0.05,
        "Largest difference of stamps, in seconds, of images that are put together. "
        "0: stamps have to be equal.",
        Settable.UNLESS_ACTIVE,
        0.0,
        10.0,
    )
    sync_queue_size: int = _parameter(
        20,
        "Images of each input that wait for their partners. The segmentation comes last: allow for "
        "its delay times the camera's rate.",
        Settable.UNLESS_ACTIVE,
        1,
        1000,
    )
    input_timeout: float = _parameter(
        2.0, "Seconds without a message after which an input counts as missing.", low=0.1, high=60.0
    )
    label_names: str = _parameter(
        "",
        'Names of segmentation labels, "1=mug, 2=bowl"; they win over those of label_info.',
        problem=_problem_of(label_names),
    )
    certificate_quantile: float = _parameter(
        0.98,
        "Share of an object's depth points that has to lie within certificate_threshold of the "
        "estimated surface.",
        low=0.5,
        high=1.0,
    )
    certificate_threshold: float = _parameter(
        0.01,
        "Distance in metres from the estimated surface up to which a depth point agrees with it.",
        low=0.0001,
        high=1.0,
    )
    certificate_visibility: bool = _parameter(
        True,
        "An object that reaches into space seen to be empty, or into seen background, gets no "
        "certificate.",
    )
    fixed_frame: str = _parameter(
        "",
        "TF frame in which objects rest, such as map or base_link, where the camera moves; its "
        "transform is looked up at each image's stamp. Empty: the camera's own frame.",
        Settable.UNLESS_ACTIVE,
        problem=_frame_problem,
    )
    fixed_frame_timeout: float = _parameter(
        0.2,
        "Seconds to wait for the camera's transform to fixed_frame, before a frame is given up.",
        low=0.0,
        high=5.0,
    )
    tracked_labels: bool = _parameter(
        False,
        "The segmentation tracks its objects: the same label is the same object, wherever it is.",
        Settable.UNLESS_ACTIVE,
    )
    track_distance: float = _parameter(
        0.15,
        "Metres by which an object may miss the place where it is expected, between two frames, "
        "and still be the same one.",
        Settable.UNLESS_ACTIVE,
        0.001,
        10.0,
    )
    object_timeout: float = _parameter(
        5.0,
        "Seconds for which an object that is no longer seen is held where it was; then it ends, "
        "and its marker goes.",
        low=0.0,
        high=3600.0,
    )
    pose_smoothing: float = _parameter(
        0.0,
        "Time constant in seconds of a filter of the objects' poses, which lag a motion by as "
        "much. 0: poses as they are estimated.",
        Settable.UNLESS_ACTIVE,
        0.0,
        10.0,
    )
    max_views: int = _parameter(
        50,
        "Most certified views of an object from which its shape is solved together. 1: each shape "
        "comes from a single view.",
        Settable.UNLESS_ACTIVE,
        1,
        50,
    )
    view_separation: float = _parameter(
        0.175,
        "Angle in radians between two viewing directions, seen from the object, from which on they "
        "are two views.",
        Settable.UNLESS_ACTIVE,
        0.001,
        3.14,
    )
    shape_change: float = _parameter(
        0.003,
        "Distance in metres between two surfaces from which on they are two shapes, and the mesh "
        "is published again.",
        Settable.UNLESS_ACTIVE,
        0.0,
        0.1,
    )
    tf_prefix: str = _parameter(
        "", "Put before the names of the objects' TF frames.", problem=_tf_prefix_problem
    )
    publish_uncertified_tf: bool = _parameter(
        False, "Broadcast the transforms of all objects, not only of those with a certificate."
    )
    mesh_faces: int = _parameter(2000, "Most triangles of a published mesh.", low=100, high=100000)
    self_training: bool = _parameter(
        False,
        "Learn in the background from certified estimates; see docs/self_training.md.",
        Settable.UNCONFIGURED,
    )
    self_training_reference: str = _parameter(
        "",
        "Reference set that guards the learning. Empty: MODEL.reference.safetensors beside the "
        "model file.",
        Settable.UNCONFIGURED,
    )
    self_training_buffer: int = _parameter(
        50, "Certified samples that are kept to learn from.", Settable.UNCONFIGURED, 1, 500
    )
    self_training_steps: int = _parameter(
        50,
        "Steps of learning between two questions to the guard.",
        Settable.UNCONFIGURED,
        1,
        10000,
    )
    self_training_max_duty: float = _parameter(
        0.25,
        "Largest share of the time that the learning thread works.",
        Settable.UNCONFIGURED,
        0.01,
        1.0,
    )
    self_training_threads: int = _parameter(
        1, "CPU threads of the learning.", Settable.UNCONFIGURED, 1, 256
    )
    collision_objects: str = _parameter(
        "off",
        "Obstacles for planners, on collision_object: off; certified, each from its first "
        "certificate on, at its last certified pose; or all.",
        problem=_one_of("off", "certified", "all"),
    )
    collision_shape: str = _parameter(
        "mesh",
        "Shape of obstacles: mesh, the surface; hull, its convex hull; or parts, convex parts "
        "(needs CoACD; takes seconds, until when the hull is there).",
        problem=_collision_shape_problem,
    )
    collision_padding: bool = _parameter(
        False, "Obstacles are larger than the surface, by the residual of the certificate."
    )
    collision_faces: int = _parameter(500, "Most triangles of an obstacle.", low=20, high=100000)
    collision_motion: float = _parameter(
        0.005,
        "Motion in metres of a corner of an object's box from which on its obstacle is moved.",
        low=0.0,
        high=1.0,
    )
    output_directory: str = _parameter(
        "",
        "Folder for files that services write, absolute. Empty: crisp_ros in ROS's own folder "
        "(~/.ros).",
        problem=_problem_of(output_directory),
    )


# Headings of the documentation, by the first parameter under each.
SECTIONS = {
    "checkpoint": "Model",
    "image_transport": "Inputs",
    "certificate_quantile": "Certificate",
    "fixed_frame": "Tracking",
    "tf_prefix": "Outputs",
    "self_training": "Self-training",
    "collision_objects": "Planners",
    "output_directory": "Services",
}

_FIELDS = {field.name: field for field in dataclasses.fields(Parameters)}


def rules(name: str) -> Rules:
    """What holds for a parameter."""
    return _FIELDS[name].metadata["rules"]


def limits(name: str) -> tuple[float, float] | None:
    """The least and the largest value of a number; None for what is no number."""
    found = rules(name)
    return None if found.low is None else (found.low, found.high)


def descriptor(name: str) -> ParameterDescriptor:
    """What ROS tools show about a parameter."""
    result = ParameterDescriptor(
        description=rules(name).description, additional_constraints=rules(name).settable.advice
    )
    low_high = limits(name)
    if low_high is not None and isinstance(_FIELDS[name].default, int):
        low, high = map(int, low_high)
        result.integer_range = [IntegerRange(from_value=low, to_value=high, step=0)]
    elif low_high is not None:
        low, high = low_high
        result.floating_point_range = [FloatingPointRange(from_value=low, to_value=high, step=0.0)]
    return result


class ParameterServer:
    """Declares the parameters of a node and keeps their values.

    A change is checked before it applies, and refused with the reason; once it holds, `on_change`
    is called with all values.
    """

    def __init__(
        self, node: Node, state: Callable[[], str], on_change: Callable[[Parameters], None]
    ) -> None:
        """Declares all parameters.

        Args:
            node: whose parameters they are.
            state: the label of the node's lifecycle state.
            on_change: called with the values after every change.

        Raises:
            rclpy.exceptions.InvalidParameterValueException: an override is refused.
            rclpy.exceptions.InvalidParameterTypeException: an override has the wrong type.
        """
        self._state = state
        node.add_on_set_parameters_callback(self._check)
        declared = [(name, field.default, descriptor(name)) for name, field in _FIELDS.items()]
        parameters = node.declare_parameters("", declared)
        self.values = Parameters(**{parameter.name: parameter.value for parameter in parameters})
        self._on_change = on_change
        node.add_post_set_parameters_callback(self._apply)

    def _check(self, parameters: Iterable[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            reason = self._problem(parameter)
            if reason is not None:
                return SetParametersResult(successful=False, reason=f"{parameter.name}: {reason}")
        return SetParametersResult(successful=True)

    def _problem(self, parameter: Parameter) -> str | None:
        if parameter.name not in _FIELDS:  # of rclpy itself, such as use_sim_time
            return None
        settable = rules(parameter.name).settable
        if self._state() not in settable.value:
            return settable.advice
        if isinstance(parameter.value, float) and not math.isfinite(parameter.value):
            return f"{parameter.value} is not a finite number"
        return rules(parameter.name).problem(parameter.value)

    def _apply(self, parameters: Iterable[Parameter]) -> None:
        changed = {p.name: p.value for p in parameters if p.name in _FIELDS}
        if changed:
            self.values = dataclasses.replace(self.values, **changed)
            self._on_change(self.values)
