"""The executable crisp_viewer."""
