"""Studies of the method: what `crisp ablate` and `crisp figure` measure, and more."""
