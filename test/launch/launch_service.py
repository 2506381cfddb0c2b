"""Launch a file as `ros2 launch FILE NAME:=VALUE ...` does."""

import sys

from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

from launch import LaunchDescription, LaunchService

if __name__ == "__main__":
    file, *arguments = sys.argv[1:]
    service = LaunchService()
    pairs = [tuple(argument.split(":=", 1)) for argument in arguments]
    source = PythonLaunchDescriptionSource(file)
    included = IncludeLaunchDescription(source, launch_arguments=pairs)
    service.include_launch_description(LaunchDescription([included]))
    sys.exit(service.run())
