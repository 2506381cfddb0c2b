"""The speed of every stage, beside plain baselines: tasks, timing and the page."""
