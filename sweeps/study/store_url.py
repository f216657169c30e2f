"""The URL of a store: a SQLite file, or a database of a PostgreSQL server. It never holds a password.

The URL is part of the study, so it stands in the store, the report and the logs. libpq, which connects, takes the
password from PGPASSWORD or ~/.pgpass.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

SQLITE, POSTGRESQL = "sqlite:///", "postgresql+psycopg://"
EXAMPLE = f"{POSTGRESQL}user@host/database"
_FILE = re.compile(r"sqlite:///(?:.*/)?[^/?]+")  # no options after the file
_SECRETS = ("password", "sslpassword")


def problem_with(url: str) -> str | None:
    """Return why a URL names no store; None: it does. A URL that may hold a password is not repeated."""
    if url.startswith(POSTGRESQL):
        return _problem_with_server(url)
    scheme, separator, _ = url.partition("://")
    if not separator:
        return f"{url!r} is not a SQLite URL such as sqlite:///runs/plateau/study.db"
    if scheme.partition("+")[0] in ("postgresql", "postgres"):
        return f"{scheme}:// is not the driver that is used; write {EXAMPLE}"
    if scheme != "sqlite":
        return f"{scheme}:// is neither SQLite nor PostgreSQL; write {SQLITE}path/to/study.db or {EXAMPLE}"
    if _FILE.fullmatch(url):
        return None
    return f"{url!r} is not a SQLite URL such as sqlite:///runs/plateau/study.db"


def _problem_with_server(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # what stands where a port should may be a password, so it is not repeated
        return f"the PostgreSQL URL can't be read; write {EXAMPLE}, with any port as host:5432"
    if parts.password is not None or any(name in parse_qs(parts.query) for name in _SECRETS):
        return (
            "the PostgreSQL URL holds a password, which would stand in the study, its report and its logs; write "
            f"{EXAMPLE}, and give the password in the variable PGPASSWORD or in the file ~/.pgpass"
        )
    if port == 0:
        return f"the PostgreSQL URL has the port 0; write {EXAMPLE}, with any port as host:5432"
    if not re.fullmatch(r"/[^/]+", parts.path):
        return f"the PostgreSQL URL names no database; write {EXAMPLE}"
    if parts.fragment:
        return "the PostgreSQL URL has a #, but a study is named by its own key, name; leave out the # and what follows"
    return None
