"""The speed of every stage, next to plain baselines: tasks, timing and the page."""
