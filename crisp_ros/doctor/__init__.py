"""The checks of `crisp doctor` that need no ROS."""
