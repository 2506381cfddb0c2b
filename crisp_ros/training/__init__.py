"""Supervised training: signed distances, losses, augmentation, the loop and its recipes."""
