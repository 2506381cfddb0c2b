"""Start the estimator and play a recording to it: ros2 launch crisp_ros demo.launch.py."""

from __future__ import annotations

from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    Shutdown,
)
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

LAUNCH = Path(__file__).parent
PASSED_ON = (
    "segmentation",
    "device",
    "checkpoint",
    "model",
    "prior_checkpoint",
    "rviz",
    "viewer",
    "rviz_frame",
)

ARGUMENTS = [
    DeclareLaunchArgument(
        "recording",
        default_value=str(LAUNCH.parent / "recordings" / "table"),
        description="rosbag2 folder or file to play.",
    ),
    DeclareLaunchArgument(
        "loop",
        default_value="true",
        choices=["true", "false"],
        description="Restart at the end, and play no faster than recorded; if false, everything "
        "shuts down at the end of the recording.",
    ),
    DeclareLaunchArgument(
        "rate",
        default_value="0.0",
        description="Maximum frames per second; 0: as fast as the estimator processes them.",
    ),
    DeclareLaunchArgument(
        "segmentation",
        default_value="topic",
        choices=["topic", "builtin"],
        description="topic: the labels of the recording; builtin: crisp_segmenter finds the "
        "objects without them.",
    ),
    DeclareLaunchArgument(
        "rviz", default_value="true", choices=["true", "false"], description="Also start RViz."
    ),
    DeclareLaunchArgument(
        "rviz_frame",
        default_value="table",
        description="Fixed frame of RViz; the default is for the bundled recording.",
    ),
    DeclareLaunchArgument("viewer", default_value="false", description="See crisp.launch.py."),
    DeclareLaunchArgument("checkpoint", default_value="", description="See crisp.launch.py."),
    DeclareLaunchArgument("model", default_value="", description="See crisp.launch.py."),
    DeclareLaunchArgument("prior_checkpoint", default_value="", description="See crisp.launch.py."),
    DeclareLaunchArgument("device", default_value="", description="See crisp.launch.py."),
]


def player(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the player, which waits for the estimator after each frame."""

    def given(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    return [
        Node(
            package="crisp_ros",
            executable="crisp_player",
            parameters=[
                {
                    "recording": given("recording"),
                    "loop": given("loop") == "true",
                    "rate": float(given("rate")),
                    "segmented": given("segmentation") == "builtin",
                }
            ],
            output="screen",
            on_exit=ended,
        )
    ]


def ended(_: ProcessExited, context: LaunchContext) -> Shutdown | None:
    """Shut everything down after the recording, unless an interruption already does."""
    return None if context.is_shutdown else Shutdown(reason="the recording has ended")


def generate_launch_description() -> LaunchDescription:
    """Return what `ros2 launch` starts."""
    estimator = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(LAUNCH / "crisp.launch.py")),
        launch_arguments={name: LaunchConfiguration(name) for name in PASSED_ON}.items(),
    )
    return LaunchDescription([*ARGUMENTS, estimator, OpaqueFunction(function=player)])
