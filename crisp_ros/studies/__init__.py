"""Studies of the method, for `crisp ablate`, `crisp figure` and the documentation."""
