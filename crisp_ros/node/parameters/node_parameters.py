"""The node's parameters: each with a description and a range."""

from __future__ import annotations

import dataclasses
import re

import torch
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

from crisp_ros.geometry.convex import can_decompose
from crisp_ros.node.outputs.output_paths import output_directory
from crisp_ros.node.parameters.parameter_rules import Rules, Settable, one_of, parameter, problem_of


def label_names(text: str) -> dict[int, str]:
    """Names of labels, from "1=mug, 2=bowl".

    Raises:
        ValueError: an entry is not LABEL=NAME with a positive label, or a label comes twice.
    """
    names: dict[int, str] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        number, _, name = (part.strip() for part in entry.partition("="))
        if not (re.fullmatch("[0-9]{1,10}", number) and int(number) > 0 and name):
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
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,9})?", name):
        raise ValueError(f"{name!r} is not a device: expected auto, cpu, cuda or cuda:N")
    # Compared as text says: torch.device wraps large numbers.
    index = int(name.partition(":")[2] or 0)
    if name != "cpu" and index >= torch.cuda.device_count():
        raise ValueError(f"no device {name}: this machine has {torch.cuda.device_count()} GPUs")
    return torch.device(name)


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
    return one_of("mesh", "hull", "parts")(shape)


@dataclasses.dataclass(frozen=True)
class Parameters:
    """All parameters of the node, with their defaults."""

    checkpoint: str = parameter(
        "",
        "Model file (.safetensors). Empty: the model that comes with the package.",
        Settable.UNCONFIGURED,
    )
    device: str = parameter(
        "auto",
        "Where the network runs: auto (a GPU where there is one), cpu, cuda or cuda:N.",
        Settable.UNCONFIGURED,
        problem=problem_of(resolved_device),
    )
    threads: int = parameter(
        0, "CPU threads of the estimator; 0: one a core.", Settable.UNCONFIGURED, 0, 256
    )
    autostart: bool = parameter(
        False,
        "At its start the node configures and activates itself; else a lifecycle manager has to. "
        "What is set later changes nothing.",
        Settable.UNCONFIGURED,
    )
    image_transport: str = parameter(
        "raw",
        "How colour images come: raw; or compressed, as JPEG or PNG on TOPIC/compressed.",
        Settable.UNLESS_ACTIVE,
        problem=one_of("raw", "compressed"),
    )
    depth_image_transport: str = parameter(
        "raw",
        "How depth images come: raw; compressed, as 16-bit PNG on TOPIC/compressed; or "
        "compressedDepth, on TOPIC/compressedDepth.",
        Settable.UNLESS_ACTIVE,
        problem=one_of("raw", "compressed", "compressedDepth"),
    )
    segmentation_image_transport: str = parameter(
        "raw",
        "How label images come: raw; or compressed, as PNG on TOPIC/compressed.",
        Settable.UNLESS_ACTIVE,
        problem=one_of("raw", "compressed"),
    )
    segmentation_format: str = parameter(
        "labels",
        "What the segmentation holds. labels: an image whose values are objects. "
        "category_instance: a 32SC1 image of (category << 16) | instance. instance_category: of "
        "(instance << 16) | category. detections: boxes, a vision_msgs/Detection2DArray on "
        "detections, inside which the depth tells object from background.",
        Settable.UNLESS_ACTIVE,
        problem=one_of("labels", "category_instance", "instance_category", "detections"),
    )
    detection_score: float = parameter(
        0.0, "Boxes whose best hypothesis has a lower score are left out.", low=0.0, high=1.0
    )
    max_objects: int = parameter(
        32,
        "Most objects of a frame that are estimated: those of the largest masks, or in the boxes "
        "of the best scores.",
        low=1,
        high=100,
    )
    rectified: bool = parameter(
        True,
        "Images are rectified, and camera_info's P describes them. False: raw images, described by "
        "K and D, which the node rectifies.",
    )
    sync_slop: float = parameter(
        0.05,
        "Largest difference of stamps, in seconds, of images that are put together. "
        "0: stamps have to be equal.",
        Settable.UNLESS_ACTIVE,
        0.0,
        10.0,
    )
    sync_queue_size: int = parameter(
        20,
        "Images of each input that wait for their partners. The segmentation comes last: allow for "
        "its delay times the camera's rate.",
        Settable.UNLESS_ACTIVE,
        1,
        1000,
    )
    input_timeout: float = parameter(
        2.0, "Seconds without a message after which an input counts as missing.", low=0.1, high=60.0
    )
    label_names: str = parameter(
        "",
        'Names of segmentation labels, "1=mug, 2=bowl"; they win over those of label_info.',
        problem=problem_of(label_names),
    )
    correct_turns: bool = parameter(
        True,
        "Where the pose of an object is in doubt whose shape has another side to it, such as a "
        "mug's handle, the depth image decides which way it is turned.",
    )
    certificate_quantile: float = parameter(
        0.98,
        "Share of an object's depth points that has to lie within certificate_threshold of the "
        "estimated surface.",
        low=0.5,
        high=1.0,
    )
    certificate_threshold: float = parameter(
        0.01,
        "Distance in metres from the estimated surface up to which a depth point agrees with it.",
        low=0.0001,
        high=1.0,
    )
    certificate_visibility: bool = parameter(
        True,
        "An object that reaches into space seen to be empty, or into seen background, gets no "
        "certificate.",
    )
    certificate_known_shapes: bool = parameter(
        True,
        "The library's shapes are tried on an object that its own shape does not explain; if none "
        "does, the reason of the refusal names it as unknown.",
    )
    fixed_frame: str = parameter(
        "",
        "TF frame in which objects rest, such as map or base_link, where the camera moves; its "
        "transform is looked up at each image's stamp. Empty: the camera's own frame.",
        Settable.UNLESS_ACTIVE,
        problem=_frame_problem,
    )
    fixed_frame_timeout: float = parameter(
        0.2,
        "Seconds to wait for the camera's transform to fixed_frame, before a frame is given up.",
        low=0.0,
        high=5.0,
    )
    tracked_labels: bool = parameter(
        False,
        "The segmentation tracks its objects: the same label is the same object, wherever it is.",
        Settable.UNLESS_ACTIVE,
    )
    track_distance: float = parameter(
        0.15,
        "Metres by which an object may miss the place where it is expected, between two frames, "
        "and still be the same one.",
        Settable.UNLESS_ACTIVE,
        0.001,
        10.0,
    )
    object_timeout: float = parameter(
        5.0,
        "Seconds for which an object that is no longer seen is held where it was; then it ends, "
        "and its marker goes.",
        low=0.0,
        high=3600.0,
    )
    pose_smoothing: float = parameter(
        0.0,
        "Time constant in seconds of a filter of the objects' poses, which lag a motion by as "
        "much. 0: poses as they are estimated.",
        Settable.UNLESS_ACTIVE,
        0.0,
        10.0,
    )
    max_views: int = parameter(
        50,
        "Most certified views of an object from which its shape is solved together. 1: each shape "
        "comes from a single view.",
        Settable.UNLESS_ACTIVE,
        1,
        50,
    )
    view_separation: float = parameter(
        0.175,
        "Angle in radians between two viewing directions, seen from the object, from which on they "
        "are two views.",
        Settable.UNLESS_ACTIVE,
        0.001,
        3.14,
    )
    degeneracy: bool = parameter(
        True,
        "Other library shapes are tried on an object's views, now and then, to see whether these "
        "fix the shape.",
        Settable.UNLESS_ACTIVE,
    )
    shape_change: float = parameter(
        0.003,
        "Distance in metres between two surfaces from which on they are two shapes, and the mesh "
        "is published again.",
        Settable.UNLESS_ACTIVE,
        0.0,
        0.1,
    )
    tf_prefix: str = parameter(
        "",
        "Put before the names of the objects' TF frames. A change holds from an object's next "
        "transform on, and its marker follows.",
        problem=_tf_prefix_problem,
    )
    publish_uncertified_tf: bool = parameter(
        False, "Broadcast the transforms of all objects, not only of those with a certificate."
    )
    mesh_faces: int = parameter(
        2000,
        "Most triangles of a published mesh. After a change all meshes are published anew.",
        low=100,
        high=100000,
    )
    self_training: bool = parameter(
        False,
        "Learn in the background from certified estimates; see docs/self_training.md.",
        Settable.UNCONFIGURED,
    )
    self_training_reference: str = parameter(
        "",
        "Reference set that guards the learning. Empty: MODEL.reference.safetensors beside the "
        "model file.",
        Settable.UNCONFIGURED,
    )
    self_training_buffer: int = parameter(
        50, "Certified samples that are kept to learn from.", Settable.UNCONFIGURED, 1, 500
    )
    self_training_steps: int = parameter(
        50,
        "Steps of learning between two questions to the guard.",
        Settable.UNCONFIGURED,
        1,
        10000,
    )
    self_training_max_duty: float = parameter(
        0.25,
        "Largest share of the time that the learning thread works.",
        Settable.UNCONFIGURED,
        0.01,
        1.0,
    )
    self_training_threads: int = parameter(
        1, "CPU threads of the learning.", Settable.UNCONFIGURED, 1, 256
    )
    collision_objects: str = parameter(
        "off",
        "Obstacles for planners, on collision_object: off; certified, each from its first "
        "certificate on, at its last certified pose; or all.",
        problem=one_of("off", "certified", "all"),
    )
    collision_shape: str = parameter(
        "mesh",
        "Shape of obstacles: mesh, the surface; hull, its convex hull; or parts, convex parts "
        "(needs CoACD; takes seconds, until when the hull is there).",
        problem=_collision_shape_problem,
    )
    collision_padding: bool = parameter(
        False, "Obstacles are larger than the surface, by the residual of the certificate."
    )
    collision_faces: int = parameter(
        500,
        "Most triangles of an obstacle; more where so few would leave its surface open.",
        low=20,
        high=100000,
    )
    collision_motion: float = parameter(
        0.005,
        "Motion in metres of a corner of an object's box from which on its obstacle is moved.",
        low=0.0,
        high=1.0,
    )
    output_directory: str = parameter(
        "",
        "Folder for files that services write, absolute. Empty: crisp_ros in ROS's own folder "
        "(~/.ros).",
        problem=problem_of(output_directory),
    )


# Headings of the documentation, by the first parameter under each.
SECTIONS = {
    "checkpoint": "Model",
    "image_transport": "Inputs",
    "correct_turns": "Correction",
    "certificate_quantile": "Certificate",
    "fixed_frame": "Tracking",
    "tf_prefix": "Outputs",
    "self_training": "Self-training",
    "collision_objects": "Planners",
    "output_directory": "Services",
}

# Every parameter by its name.
FIELDS = {field.name: field for field in dataclasses.fields(Parameters)}


def rules(name: str) -> Rules:
    """What holds for a parameter."""
    return FIELDS[name].metadata["rules"]


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
    if low_high is not None and isinstance(FIELDS[name].default, int):
        low, high = map(int, low_high)
        result.integer_range = [IntegerRange(from_value=low, to_value=high, step=0)]
    elif low_high is not None:
        low, high = low_high
        result.floating_point_range = [FloatingPointRange(from_value=low, to_value=high, step=0.0)]
    return result
