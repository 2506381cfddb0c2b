"""Readers and writers of meshes and data sets."""
