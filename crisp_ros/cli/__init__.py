"""The `crisp` command; one module a subcommand."""
