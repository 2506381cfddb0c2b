"""HTML pages, charts, figures, pictures and tables of measured results."""
