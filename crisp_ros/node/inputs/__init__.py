"""Inputs of the node: images, calibration, transforms."""
