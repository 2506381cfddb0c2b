"""Outputs of the node: messages and files."""
