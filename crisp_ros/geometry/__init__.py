"""Batched tensor functions on points, poses and surfaces; nothing here holds state."""
