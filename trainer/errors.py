"""What can go wrong, from the user's side.

A `UserError` is the user's to mend: its text names the value, the limit and the remedy, and a
command that meets one prints the text and exits with 2. Everything else is our fault: exit 1.
"""


class UserError(Exception):
    """The user's mistake, told in the user's words."""


class ConfigError(UserError):
    """A training configuration that cannot be run."""


class DataError(UserError):
    """Training data that cannot be read, or is not what it says it is."""


class CheckpointError(UserError):
    """A checkpoint that cannot be loaded, or belongs to another run."""
