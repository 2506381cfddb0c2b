"""Start an Intel RealSense camera and the estimator: ros2 launch crisp_ros realsense.launch.py.

The camera's driver is the package realsense2_camera. The built-in segmenter finds the objects. For
another one (see docs/segmentation.md), pass its topic as segmentation_topic or detections_topic.
"""

from __future__ import annotations

from pathlib import Path

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

LAUNCH = Path(__file__).parent
CAMERA = "/camera/camera"
PASSED_ON = (
    "segmentation_format",
    "segmentation_topic",
    "detections_topic",
    "label_info_topic",
    "checkpoint",
    "model",
    "prior_checkpoint",
    "device",
    "fixed_frame",
    "rviz",
    "viewer",
)

ARGUMENTS = [
    DeclareLaunchArgument(
        "driver",
        default_value="true",
        choices=["true", "false"],
        description="Also start realsense2_camera; if false, run it with align_depth on.",
    ),
    DeclareLaunchArgument(
        "profile",
        default_value="640,480,15",
        description="Width, height and rate of colour and depth.",
    ),
    DeclareLaunchArgument(
        "segmentation",
        default_value="auto",
        choices=["auto", "topic", "builtin"],
        description="builtin: the built-in segmenter finds the objects; topic: another node does; "
        "auto: builtin, unless a topic or a format of a segmentation is given.",
    ),
    DeclareLaunchArgument(
        "segmentation_format", default_value="", description="See crisp.launch.py."
    ),
    DeclareLaunchArgument(
        "segmentation_topic", default_value="segmentation", description="See crisp.launch.py."
    ),
    DeclareLaunchArgument(
        "detections_topic", default_value="detections", description="See crisp.launch.py."
    ),
    DeclareLaunchArgument(
        "label_info_topic", default_value="label_info", description="See crisp.launch.py."
    ),
    DeclareLaunchArgument("checkpoint", default_value="", description="See crisp.launch.py."),
    DeclareLaunchArgument("model", default_value="", description="See crisp.launch.py."),
    DeclareLaunchArgument("prior_checkpoint", default_value="", description="See crisp.launch.py."),
    DeclareLaunchArgument("device", default_value="", description="See crisp.launch.py."),
    DeclareLaunchArgument("fixed_frame", default_value="", description="See crisp.launch.py."),
    DeclareLaunchArgument("rviz", default_value="true", description="See crisp.launch.py."),
    DeclareLaunchArgument("viewer", default_value="false", description="See crisp.launch.py."),
]


# What is given where nothing else separates the objects.
UNNAMED = {
    "segmentation_topic": "segmentation",
    "detections_topic": "detections",
    "segmentation_format": "",
}


def estimator(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the estimator, with the built-in segmenter where it is to find the objects."""
    segmentation = LaunchConfiguration("segmentation").perform(context)
    if segmentation == "auto":
        given = {name: LaunchConfiguration(name).perform(context) for name in UNNAMED}
        segmentation = "builtin" if given == UNNAMED else "topic"
    arguments = {
        **{name: LaunchConfiguration(name) for name in PASSED_ON},
        "segmentation": segmentation,
        "rgb_topic": f"{CAMERA}/color/image_raw",
        "depth_topic": f"{CAMERA}/aligned_depth_to_color/image_raw",
        "camera_info_topic": f"{CAMERA}/color/camera_info",
        "rectified": "false",  # color/image_raw contains the lens distortion
        "rviz_frame": "camera_color_optical_frame",
    }
    source = PythonLaunchDescriptionSource(str(LAUNCH / "crisp.launch.py"))
    return [IncludeLaunchDescription(source, launch_arguments=arguments.items())]


def generate_launch_description() -> LaunchDescription:
    """Return what `ros2 launch` starts."""
    driver = PathJoinSubstitution([FindPackageShare("realsense2_camera"), "launch", "rs_launch.py"])
    camera = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(driver),
        launch_arguments={
            "align_depth.enable": "true",  # depth registered to the colour image
            "enable_sync": "true",
            "rgb_camera.color_profile": LaunchConfiguration("profile"),
            "depth_module.depth_profile": LaunchConfiguration("profile"),
        }.items(),
        condition=IfCondition(LaunchConfiguration("driver")),
    )
    return LaunchDescription([*ARGUMENTS, camera, OpaqueFunction(function=estimator)])
