"""Health of a container: a dashboard is healthy if it answers, everything else as long as it runs.

Docker runs it inside the container. Exit codes: 0 healthy, 1 unhealthy.
"""

from __future__ import annotations

import argparse
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path

SECONDS = 5.0
"""that a dashboard has to answer"""


def address(command: Sequence[str]) -> str | None:
    """Return the address of the dashboard that `command` starts; None if it starts none, or on a free port."""
    if "dashboard" not in command:
        return None
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    options, _ = parser.parse_known_args(command[command.index("dashboard") + 1 :])
    host = "127.0.0.1" if options.host == "0.0.0.0" else options.host  # noqa: S104  # where to ask, not to listen
    return f"http://{host}:{options.port}" if options.port else None


def main(process: Path = Path("/proc/1/cmdline")) -> int:
    """Ask the dashboard that process 1 is, or that its init has started. Raises OSError if it doesn't answer."""
    command = process.read_text(encoding="utf-8").split("\0")
    dashboard = address(command)
    if dashboard is None:
        return 0
    # an empty ProxyHandler: a proxy can't reach this container's loopback address
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{dashboard}/api/studies", timeout=SECONDS) as response:
        return int(response.status != 200)


if __name__ == "__main__":
    sys.exit(main())
