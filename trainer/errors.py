"""Errors that a user can fix.

The text of a `UserError` names the value, the limit and the remedy. A command prints it and exits with 2. Any other
exception is a bug, and the command exits with 1.
"""


class UserError(Exception):
    """A mistake of the user's, in words that a user understands."""


class ConfigError(UserError):
    """A training configuration that cannot be run."""


class DataError(UserError):
    """Training data that cannot be read, or contradicts its own description."""


class CheckpointError(UserError):
    """A checkpoint that cannot be loaded, or belongs to another run."""


class DamagedCheckpoint(CheckpointError):
    """A checkpoint whose content isn't what was written."""
