"""Synthetic scenes of textured objects and their renderer."""
