"""A camera frame becomes observations: crops for the network, depth points for the pose."""
