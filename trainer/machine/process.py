"""What Linux tells of a process."""

from __future__ import annotations

from pathlib import Path

STATE, STARTED = 0, 19
"""places of what `stat` returns: the state, a letter, and the start, in ticks since the machine's"""


def stat(pid: int) -> list[str]:
    """Return the fields of a process from the third on (proc_pid_stat(5)). Raises OSError without it, or a /proc."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return text.rpartition(")")[2].split()  # the name before it may have brackets of its own
