"""The executable crisp_player."""
