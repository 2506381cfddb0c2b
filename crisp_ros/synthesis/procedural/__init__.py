"""Procedural household objects: closed, textured meshes of real size that no data set has."""
