"""What `crisp doctor` checks without ROS."""
