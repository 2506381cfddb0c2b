"""Observations of objects from a camera frame: crops for the network, depth points for poses."""
