"""Start the estimator: ros2 launch crisp_ros crisp.launch.py [checkpoint:=... device:=... ...]."""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import NamedTemporaryFile

from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

CONFIG = Path(__file__).parents[1] / "config"
# Environment of the started processes, for variables that are not set. glibc gives each thread its
# own heap, which keeps the memory of the largest images it held: with two heaps it grows less.
ENVIRONMENT = {
    "FASTRTPS_DEFAULT_PROFILES_FILE": str(CONFIG / "fastdds_shm.xml"),
    "MALLOC_ARENA_MAX": "2",
}

# Launch arguments for the topics of the inputs, with the node's own names.
TOPICS = {
    "rgb_topic": "rgb/image_rect_color",
    "depth_topic": "depth_registered/image_rect",
    "camera_info_topic": "rgb/camera_info",
    "segmentation_topic": "segmentation",
    "detections_topic": "detections",
    "label_info_topic": "label_info",
}
# Launch arguments that override parameters of the same name in params_file, if they are given.
OVERRIDES = (
    "checkpoint",
    "model",
    "prior_checkpoint",
    "device",
    "segmentation_format",
    "image_transport",
    "rectified",
    "fixed_frame",
)

ARGUMENTS = [
    DeclareLaunchArgument(
        "params_file",
        default_value=str(CONFIG / "crisp.yaml"),
        description="Parameters of the node; config/crisp.yaml lists all of them.",
    ),
    DeclareLaunchArgument(
        "checkpoint", default_value="", description="Model file; empty: as in params_file."
    ),
    DeclareLaunchArgument(
        "model",
        default_value="",
        description="Model of the package: ycbv or household; empty: as in params_file.",
    ),
    DeclareLaunchArgument(
        "prior_checkpoint",
        default_value="",
        description="Model file with a prior over shapes, for unknown objects; household: that of "
        "the package; none: no such file; empty: as in params_file.",
    ),
    DeclareLaunchArgument(
        "device",
        default_value="",
        description="auto, cpu, cuda or cuda:N; empty: as in params_file.",
    ),
    DeclareLaunchArgument(
        "segmentation_format",
        default_value="",
        choices=["", "labels", "category_instance", "instance_category", "detections"],
        description="Input that separates the objects: label images of this kind on "
        "segmentation_topic, or boxes on detections_topic; empty: as in params_file.",
    ),
    DeclareLaunchArgument(
        "image_transport",
        default_value="",
        choices=["", "raw", "compressed"],
        description="Transport of colour images; empty: as in params_file.",
    ),
    DeclareLaunchArgument(
        "rectified",
        default_value="",
        choices=["", "true", "false"],
        description="true: images are rectified; false: they are raw and the node rectifies them; "
        "empty: as in params_file.",
    ),
    DeclareLaunchArgument(
        "fixed_frame",
        default_value="",
        description="TF frame in which objects rest, for a camera that moves; "
        "empty: as in params_file.",
    ),
    *(
        DeclareLaunchArgument(name, default_value=topic, description=f"Topic to use for {topic}.")
        for name, topic in TOPICS.items()
    ),
    DeclareLaunchArgument(
        "segmentation",
        default_value="topic",
        choices=["topic", "builtin"],
        description="Where the objects' masks come from: another node on segmentation_topic or "
        "detections_topic, or crisp_segmenter, in one process with the estimator.",
    ),
    DeclareLaunchArgument(
        "segmenter_params_file",
        default_value=str(CONFIG / "segmenter.yaml"),
        description="Parameters of the built-in segmenter; config/segmenter.yaml lists all.",
    ),
    DeclareLaunchArgument(
        "viewer",
        default_value="false",
        choices=["true", "false"],
        description="Also show the scene in a browser (crisp_viewer; needs rerun-sdk).",
    ),
    DeclareLaunchArgument(
        "use_sim_time",
        default_value="false",
        choices=["true", "false"],
        description="Use the time of /clock.",
    ),
    DeclareLaunchArgument(
        "rviz", default_value="false", choices=["true", "false"], description="Also start RViz."
    ),
    DeclareLaunchArgument(
        "rviz_frame",
        default_value="camera_color_optical_frame",
        description="Fixed frame of RViz.",
    ),
    DeclareLaunchArgument(
        "autostart",
        default_value="true",
        choices=["true", "false"],
        description="The node configures and activates itself; if false, a lifecycle manager must.",
    ),
    DeclareLaunchArgument(
        "namespace", default_value="", description="Namespace of the node and its topics."
    ),
    DeclareLaunchArgument(
        "log_level",
        default_value="info",
        choices=["debug", "info", "warn", "error", "fatal"],
        description="Log level of the node.",
    ),
]


def remappings(context: LaunchContext) -> list[tuple[str, str]]:
    """Return the remappings of inputs whose topics have other names."""
    given = {name: LaunchConfiguration(name).perform(context) for name in TOPICS}
    return [(TOPICS[name], topic) for name, topic in given.items() if topic != TOPICS[name]]


def viewer(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the viewer, which shows the scene in a browser."""
    sim_time = LaunchConfiguration("use_sim_time").perform(context) == "true"
    return [
        Node(
            package="crisp_ros",
            executable="crisp_viewer",
            namespace=LaunchConfiguration("namespace").perform(context),
            parameters=[{"use_sim_time": sim_time}],
            remappings=remappings(context),
            output="screen",
        )
    ]


def parameters(context: LaunchContext) -> list[str | dict[str, str | bool]]:
    """Return the parameter files, and what overrides them."""

    def given(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    switch = {"true": True, "false": False}  # a boolean parameter accepts no string
    overrides: dict[str, str | bool] = {
        name: switch.get(value, value)
        for name in ("use_sim_time", "autostart", *OVERRIDES)
        if (value := given(name))
    }
    if given("segmentation") != "builtin":
        return [given("params_file"), overrides]
    if given("segmentation_format") not in ("", "labels"):
        raise ValueError("segmentation:=builtin makes labels: leave segmentation_format empty")
    # In a file: launch gives a dictionary to all nodes of a process, and a file that names the node
    # takes precedence over that.
    content = {"/**/crisp_segmenter": {"ros__parameters": overrides}}
    with NamedTemporaryFile("w", prefix="crisp_segmenter_", suffix=".yaml", delete=False) as file:
        json.dump(content, file)
    return [given("params_file"), given("segmenter_params_file"), file.name, overrides]


def estimator(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the lifecycle node, in one process with the built-in segmenter if that is chosen."""
    shared = {
        "package": "crisp_ros",
        "namespace": LaunchConfiguration("namespace").perform(context),
        "parameters": parameters(context),
        "remappings": remappings(context),
        "arguments": ["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        "output": "screen",
    }
    if LaunchConfiguration("segmentation").perform(context) == "builtin":
        # Without a name, which both nodes of the process would get.
        return [Node(executable="crisp_with_segmenter", **shared)]
    return [LifecycleNode(executable="crisp_node", name="crisp", **shared)]


def generate_launch_description() -> LaunchDescription:
    """Return what `ros2 launch` starts."""
    entities: list[LaunchDescriptionEntity] = [*ARGUMENTS]
    for name, value in ENVIRONMENT.items():
        if not os.environ.get(name):
            entities.append(SetEnvironmentVariable(name, value))
    entities.append(OpaqueFunction(function=estimator))
    shown = IfCondition(LaunchConfiguration("viewer"))
    entities.append(OpaqueFunction(function=viewer, condition=shown))
    entities.append(
        Node(
            package="rviz2",
            executable="rviz2",
            arguments=["-d", str(CONFIG / "crisp.rviz"), "-f", LaunchConfiguration("rviz_frame")],
            parameters=[{"use_sim_time": LaunchConfiguration("use_sim_time")}],
            condition=IfCondition(LaunchConfiguration("rviz")),
        )
    )
    return LaunchDescription(entities)
