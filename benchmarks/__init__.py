"""Measurements behind the numbers in docs/. README.md lists every command. Nothing here is in the wheel."""
