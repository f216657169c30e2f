"""Hypothesis without deadlines (a busy machine is no bug), the same each time in CI; a cache that is not the user's."""

from __future__ import annotations

import os
import tempfile

from hypothesis import settings

os.environ.setdefault("PLATEAU_SWEEP_CACHE", tempfile.mkdtemp(prefix="plateau-sweep-tests-"))  # not the user's own

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
