"""Parameters of the node, with descriptions, ranges and checks."""

from __future__ import annotations

import dataclasses

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

from crisp_ros.correction.corrector_settings import CORRECTORS
from crisp_ros.network.precision import PRECISIONS
from crisp_ros.node.output_paths import output_directory
from crisp_ros.node.parameters.common_parameters import (
    autostart_parameter,
    colour_transport_parameter,
    depth_transport_parameter,
)
from crisp_ros.node.parameters.parameter_rules import Rules, Settable, one_of, parameter, problem_of
from crisp_ros.node.parameters.parameter_values import (
    collision_shape_problem,
    find_device,
    frame_problem,
    parse_label_names,
    tf_prefix_problem,
)
from crisp_ros.share import BUNDLED_MODELS, BUNDLED_PRIOR


@dataclasses.dataclass(frozen=True)
class Parameters:
    """All parameters of the node, with their defaults."""

    checkpoint: str = parameter(
        "",
        "Model file (.safetensors). Empty: the one that model names.",
        Settable.UNCONFIGURED,
    )
    model: str = parameter(
        "ycbv",
        "Model of the package where checkpoint is empty. ycbv: 21 known objects of YCB-Video. "
        "household: any household object, without a library; see docs/unseen.md.",
        Settable.UNCONFIGURED,
        problem=one_of(*BUNDLED_MODELS),
    )
    prior_checkpoint: str = parameter(
        BUNDLED_PRIOR,
        "Model file with a prior over shapes, for objects that no known shape explains in "
        "shape_mode auto: pose and shape are searched once, a second of a core for each object "
        "(see background_searches), and count with a certificate. household: that of the package; "
        "none: no such file. A model without a library does not use it.",
        Settable.UNCONFIGURED,
    )
    background_searches: bool = parameter(
        True,
        "Search shapes under a prior in a thread of its own; until then the object is unknown. "
        "false: in its frame, a second longer, whatever the speed of the machine.",
        Settable.UNCONFIGURED,
    )
    device: str = parameter(
        "auto",
        "Device of the network: auto (a GPU if there is one), cpu, cuda or cuda:N.",
        Settable.UNCONFIGURED,
        problem=problem_of(find_device),
    )
    threads: int = parameter(
        0, "CPU threads of the estimator; 0: one per core.", Settable.UNCONFIGURED, 0, 256
    )
    precision: str = parameter(
        "auto",
        "Precision of the network's arithmetic: float32; bfloat16 or, on a GPU, float16, faster "
        "where the processor has it, coordinates 0.1 mm off; or auto, which measures at "
        "configuration what is fastest.",
        Settable.UNCONFIGURED,
        problem=one_of(*PRECISIONS),
    )
    shape_tables: bool = parameter(
        True,
        "Look up signed distances of library shapes in tables instead of computing them with the "
        "decoder: much faster, 0.2 mm accurate near the surface. The tables are made at the first "
        "configuration and kept in $XDG_CACHE_HOME/crisp_ros (~/.cache/crisp_ros).",
        Settable.UNCONFIGURED,
    )
    autostart: bool = autostart_parameter()
    image_transport: str = colour_transport_parameter()
    depth_image_transport: str = depth_transport_parameter()
    segmentation_image_transport: str = parameter(
        "raw",
        "Transport of label images: raw; or compressed (PNG on TOPIC/compressed).",
        Settable.UNLESS_ACTIVE,
        problem=one_of("raw", "compressed"),
    )
    segmentation_format: str = parameter(
        "labels",
        "Format of the segmentation. labels: an image with one value per object. "
        "category_instance: a 32SC1 image of (category << 16) | instance. instance_category: a "
        "32SC1 image of (instance << 16) | category. detections: boxes, a "
        "vision_msgs/Detection2DArray on detections; depth separates object and background "
        "inside each box.",
        Settable.UNLESS_ACTIVE,
        problem=one_of("labels", "category_instance", "instance_category", "detections"),
    )
    detection_score: float = parameter(
        0.0,
        "Minimum score of the best hypothesis of a box; boxes below it are ignored.",
        low=0.0,
        high=1.0,
    )
    max_objects: int = parameter(
        32,
        "Maximum number of objects estimated per frame: those with the largest masks, or the "
        "boxes with the best scores.",
        low=1,
        high=100,
    )
    rectified: bool = parameter(
        True,
        "true: images are rectified and described by camera_info's P. false: images are raw, "
        "described by K and D, and the node rectifies them.",
    )
    depth_unit: float = parameter(
        0.0,
        "Length of one step of the depth images, metres, such as 0.0001 for a camera that sends "
        "tenths of a millimetre. 0: by the encoding (REP 118), 16UC1 in millimetres and 32FC1 in "
        "metres.",
        low=0.0,
        high=1.0,
    )
    sync_slop: float = parameter(
        0.05,
        "Maximum difference between the stamps of matched images, seconds. 0: stamps must be "
        "equal.",
        Settable.UNLESS_ACTIVE,
        0.0,
        10.0,
    )
    sync_queue_size: int = parameter(
        20,
        "Number of images of each input that wait for a match. The segmentation arrives last: "
        "allow for its delay times the camera's rate.",
        Settable.UNLESS_ACTIVE,
        1,
        1000,
    )
    input_timeout: float = parameter(
        2.0,
        "Time without a message after which an input counts as missing, seconds.",
        low=0.1,
        high=60.0,
    )
    label_names: str = parameter(
        "",
        'Names of segmentation labels, "1=mug, 2=bowl"; they take precedence over those of '
        "label_info.",
        problem=problem_of(parse_label_names),
    )
    shape_mode: str = parameter(
        "auto",
        "Source of the shapes. library: the known shapes. active: a combination of known shapes. "
        "network: the network's own shape code. prior: fitted to what is seen under the model's "
        "prior over shapes, if it has one; a second of a core for each object. auto: the "
        "known shapes; for an object that the network does not name, the first three compete, and "
        "the simplest that explains depth and free space is taken.",
        problem=one_of("library", "active", "network", "prior", "auto"),
    )
    corrector: str = parameter(
        "second_order",
        "Corrector of pose and shape. second_order: Levenberg-Marquardt. alg1, alg2: Algorithms 1 "
        "and 2 of the paper, to compare with; they take about a second of a core for each object. "
        "none: the network's answer as it is. With alg1, alg2 and none all that the paper does not "
        "have is off, whatever other parameters say: refined masks, near-symmetries, prints, and "
        "all conditions of the certificate but certificate_quantile and certificate_threshold.",
        problem=one_of(*CORRECTORS),
    )
    correct_turns: bool = parameter(
        True,
        "If the pose of an object is in doubt and its shape has a near-symmetry, such as a mug "
        "with its handle, the depth image decides between the candidate rotations.",
    )
    certificate_quantile: float = parameter(
        0.98,
        "Share of an object's depth points that must lie within certificate_threshold of the "
        "estimated surface.",
        low=0.5,
        high=1.0,
    )
    certificate_threshold: float = parameter(
        0.01,
        "Maximum distance from the estimated surface at which a depth point agrees with it, "
        "metres. A noisier camera needs a larger one.",
        low=0.0001,
        high=1.0,
    )
    certificate_visibility: bool = parameter(
        True,
        "Do not certify an object that reaches into space seen to be empty, or into seen "
        "background.",
    )
    certificate_known_shapes: bool = parameter(
        True,
        "Test the library's shapes on an object that its own shape does not explain; if none "
        "explains it, the reason reports an unknown object.",
    )
    observed_hulls: bool = parameter(
        True,
        "For an unknown object, publish the hull of what was seen, closed towards its support and "
        "along the viewing rays: as mesh, marker and obstacle, never certified.",
    )
    fixed_frame: str = parameter(
        "",
        "TF frame in which objects rest, such as map or base_link, for a camera that moves; its"
        " transform is looked up at each image's stamp. Empty: the camera frame.",
        Settable.UNLESS_ACTIVE,
        problem=frame_problem,
    )
    fixed_frame_timeout: float = parameter(
        0.2,
        "Maximum time to wait for the camera's transform to fixed_frame, seconds; then the "
        "frame is skipped.",
        low=0.0,
        high=5.0,
    )
    tracked_labels: bool = parameter(
        False,
        "The segmentation tracks its objects: the same label is always the same object, "
        "wherever it is.",
        Settable.UNLESS_ACTIVE,
    )
    track_distance: float = parameter(
        0.15,
        "Maximum distance of an object from its expected position between two frames, metres; "
        "farther away, it counts as another object.",
        Settable.UNLESS_ACTIVE,
        0.001,
        10.0,
    )
    object_timeout: float = parameter(
        5.0,
        "Time for which an object out of sight is held at its last position, seconds; then it "
        "ends and its marker is deleted.",
        low=0.0,
        high=3600.0,
    )
    pose_smoothing: float = parameter(
        0.0,
        "Time constant of the filter of object poses, seconds; poses lag behind motion by about"
        " as much. 0: no filter.",
        Settable.UNLESS_ACTIVE,
        0.0,
        10.0,
    )
    max_views: int = parameter(
        50,
        "Maximum number of certified views of an object from which its shape is solved jointly."
        " 1: each shape comes from a single view.",
        Settable.UNLESS_ACTIVE,
        1,
        50,
    )
    view_separation: float = parameter(
        0.175,
        "Minimum angle between two viewing directions, seen from the object, radians; closer "
        "ones count as the same view.",
        Settable.UNLESS_ACTIVE,
        0.001,
        3.14,
    )
    degeneracy: bool = parameter(
        True,
        "Test other library shapes on an object's views from time to time, to detect views that"
        " do not determine the shape.",
        Settable.UNLESS_ACTIVE,
    )
    shape_change: float = parameter(
        0.003,
        "Minimum distance between two surfaces that count as different shapes, metres; the mesh"
        " is then published again.",
        Settable.UNLESS_ACTIVE,
        0.0,
        0.1,
    )
    tf_prefix: str = parameter(
        "",
        "Prefix of the names of the objects' TF frames. A change takes effect with an object's "
        "next transform, and its marker follows.",
        problem=tf_prefix_problem,
    )
    publish_uncertified_tf: bool = parameter(
        False, "Broadcast the transforms of all objects, not only of certified ones."
    )
    certified_orientation_tf: bool = parameter(
        False,
        "Broadcast only the transforms of objects whose orientation is certified too, not those "
        "that may be rotated by a symmetry of their shape. No effect with publish_uncertified_tf.",
    )
    mesh_faces: int = parameter(
        2000,
        "Maximum number of triangles of a published mesh. After a change, all meshes are "
        "published again.",
        low=100,
        high=100000,
    )
    self_training: bool = parameter(
        False,
        "Train the model in the background with certified estimates; see docs/self_training.md.",
        Settable.UNCONFIGURED,
    )
    self_training_reference: str = parameter(
        "",
        "Reference set that guards self-training. Empty: MODEL.reference.safetensors next to "
        "the model file.",
        Settable.UNCONFIGURED,
    )
    self_training_buffer: int = parameter(
        50, "Maximum number of certified samples kept for training.", Settable.UNCONFIGURED, 1, 500
    )
    self_training_steps: int = parameter(
        50,
        "Training steps between two checks by the guard.",
        Settable.UNCONFIGURED,
        1,
        10000,
    )
    self_training_max_duty: float = parameter(
        0.25,
        "Maximum share of the time that the training thread works.",
        Settable.UNCONFIGURED,
        0.01,
        1.0,
    )
    self_training_threads: int = parameter(
        1, "CPU threads of self-training.", Settable.UNCONFIGURED, 1, 256
    )
    collision_objects: str = parameter(
        "off",
        "Obstacles for planners, on collision_object: off; certified (each object from its "
        "first certificate on, at its last certified pose); or all. With the first two, unknown "
        "objects are obstacles by their observed hulls, see observed_hulls.",
        problem=one_of("off", "certified", "all"),
    )
    collision_shape: str = parameter(
        "mesh",
        "Shape of obstacles: mesh (the surface); hull (its convex hull); or parts (a convex "
        "decomposition; needs CoACD and takes seconds, with the hull until then).",
        problem=collision_shape_problem,
    )
    collision_padding: bool = parameter(
        False, "Enlarge obstacles by the residual of the certificate."
    )
    collision_faces: int = parameter(
        500,
        "Maximum number of triangles of an obstacle; exceeded if fewer would leave its surface "
        "open.",
        low=20,
        high=100000,
    )
    collision_motion: float = parameter(
        0.005,
        "Minimum motion of a corner of an object's box after which its obstacle is moved, metres.",
        low=0.0,
        high=1.0,
    )
    output_directory: str = parameter(
        "",
        "Folder for files that services write, absolute. Empty: crisp_ros in the ROS home "
        "folder (~/.ros).",
        problem=problem_of(output_directory),
    )


# Headings of the documentation, by the first parameter of each section.
SECTIONS = {
    "checkpoint": "Model",
    "image_transport": "Inputs",
    "shape_mode": "Correction",
    "certificate_quantile": "Certificate",
    "fixed_frame": "Tracking",
    "tf_prefix": "Outputs",
    "self_training": "Self-training",
    "collision_objects": "Planners",
    "output_directory": "Services",
}


def rules(name: str, kind: type = Parameters) -> Rules:
    """Get the rules of a parameter."""
    return kind.__dataclass_fields__[name].metadata["rules"]


def descriptor(name: str, kind: type = Parameters) -> ParameterDescriptor:
    """Create the description of a parameter for ROS tools."""
    found = rules(name, kind)
    result = ParameterDescriptor(
        description=found.description, additional_constraints=found.settable.advice
    )
    if found.range is not None and isinstance(kind.__dataclass_fields__[name].default, int):
        low, high = int(found.range.low), int(found.range.high)
        result.integer_range = [IntegerRange(from_value=low, to_value=high, step=0)]
    elif found.range is not None:
        low, high = float(found.range.low), float(found.range.high)
        result.floating_point_range = [FloatingPointRange(from_value=low, to_value=high, step=0.0)]
    return result
