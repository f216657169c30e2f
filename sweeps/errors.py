"""Errors that a user can correct. The command prints one or two lines of text and exits with code 2."""

from __future__ import annotations

from trainer.errors import UserError


class SpecError(UserError):
    """A study file, or an override of one, that cannot be run."""


class StudyChanged(UserError):
    """The stored study of this name has other settings."""


class StoreBusy(UserError):
    """Another process is running this study."""


class StoreError(UserError):
    """A store that cannot be opened, or whose content is not a store's."""


class DiskError(UserError):
    """A disk that is full or read-only."""


class NotFound(UserError):
    """A study, trial or file that does not exist."""


class LogError(UserError):
    """A training log that cannot be read, or is none."""
