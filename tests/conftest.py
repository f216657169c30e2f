"""Settings of all tests: no Hypothesis deadlines, since machines may be busy; fixed examples in CI; a private cache."""

from __future__ import annotations

import os
import tempfile

from hypothesis import settings

os.environ.setdefault("PLATEAU_SWEEP_CACHE", tempfile.mkdtemp(prefix="plateau-sweep-tests-"))

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
