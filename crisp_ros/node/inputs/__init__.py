"""What the node receives: images, calibration, transforms."""
