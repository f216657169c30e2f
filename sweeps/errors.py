"""What can go wrong in a sweep, from the user's side: exit code 2 and one or two lines of text."""

from __future__ import annotations

from trainer.errors import UserError


class SpecError(UserError):
    """A study file, or an override of it, that cannot be run."""


class StudyChanged(UserError):
    """The stored study of this name is another one."""


class StoreBusy(UserError):
    """Another process drives this study."""


class StoreError(UserError):
    """A store that cannot be opened, or is not what it says it is."""


class NotFound(UserError):
    """A study, trial or file that is not there."""
