"""Class-agnostic instance masks from a colour and a depth image."""
