"""Error measures, evaluation on data sets, tables."""
