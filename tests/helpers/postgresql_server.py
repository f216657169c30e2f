"""A PostgreSQL server for tests: its own cluster on loopback, with a password, for one session of tests.

PostgreSQL refuses to run as root, so root starts it as another user.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

USER = "sweep"
_OTHERS = ("postgres", "nobody")
"""users that root starts it as"""


@dataclass(frozen=True)
class Server:
    """A running server, whose user may make databases."""

    bin: Path
    folder: Path
    port: int
    password: str
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def new_database(self) -> str:
        """Make an empty database, and return its URL without the password."""
        name = f"sweeps{next(self._numbers)}"
        self.run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, name)
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self.port}/{name}"

    def run(self, program: str, *arguments: str) -> str:
        """Run a client's command with the password, and return what it prints."""
        environment = {**os.environ, "PGPASSWORD": self.password}
        command = [str(self.bin / program), *arguments]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs: that of pg_ctl in PATH, or Debian's newest. None: not installed."""
    if found := shutil.which("pg_ctl"):
        return Path(found).resolve().parent
    versions = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
    return max(versions, key=lambda path: int(path.parent.name), default=None)


def why_missing() -> str | None:
    """Return what a server lacks here; None: nothing."""
    try:
        import psycopg  # noqa: F401  # only whether it is there
    except ImportError:
        return "psycopg is not installed: pip install 'plateau-sweep[postgres]'"
    if programs() is None:
        return "no PostgreSQL server is installed: apt-get install postgresql"
    return None


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """Start a server, and stop it at the end."""
    programs_folder = programs()
    assert programs_folder is not None
    folder = Path(tempfile.mkdtemp(prefix="plateau-sweep-postgresql-"))
    try:
        as_user: list[str] = []
        if os.getuid() == 0:
            user = next(name for name in _OTHERS if _exists(name))
            shutil.chown(folder, user)
            as_user = ["setpriv", f"--reuid={user}", f"--regid={pwd.getpwnam(user).pw_gid}", "--clear-groups"]
        password = secrets.token_hex(8)
        (folder / "password").write_text(password)
        (folder / "password").chmod(0o644)
        cluster = ["-D", str(folder / "cluster")]
        _run([*as_user, str(programs_folder / "initdb"), *cluster, "-U", USER, "-A", "scram-sha-256", "--no-sync",
              "--locale=C", "--encoding=UTF8", f"--pwfile={folder / 'password'}"])  # fmt: skip
        port = _free_port()
        options = f"-c listen_addresses=127.0.0.1 -p {port} -k '' -c fsync=off"
        control = [*as_user, str(programs_folder / "pg_ctl"), *cluster, "-w", "-l", str(folder / "log")]
        _run([*control, "-o", options, "start"])
        try:
            yield Server(bin=programs_folder, folder=folder, port=port, password=password)
        finally:
            _run([*control, "-m", "immediate", "stop"])
    finally:
        shutil.rmtree(folder)


def _run(command: Sequence[str]) -> None:
    # its children keep a pipe open, so the output goes to a file
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, check=False, cwd="/")
        if done.returncode:
            output.seek(0)
            raise RuntimeError(output.read().decode())


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
