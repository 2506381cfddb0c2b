"""Instances over time: association, stable ids and poses, and shapes from many views."""
