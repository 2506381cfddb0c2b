"""Diagnostics of the node and its inputs."""
