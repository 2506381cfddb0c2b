"""Error measures of poses and shapes, and the evaluation of data sets."""
