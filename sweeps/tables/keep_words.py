"""What a log of keeps and discards shows, in words."""

from __future__ import annotations

from collections.abc import Iterator

from sweeps.tables.keeps import Keep, KeepLog
from sweeps.text import count, cut, joined, p_value

_SHOWN = 15  # keeps with a line of their own


def lines(log: KeepLog) -> Iterator[str]:
    """Yield the ruling on the log as lines of text, the answer first."""
    yield answer(log)
    yield ""
    width = min(48, max((len(keep.label) for keep in log.keeps), default=0))
    for keep in log.keeps[:_SHOWN]:
        yield _line(keep, width)
    if len(log.keeps) > _SHOWN:
        yield f"and {len(log.keeps) - _SHOWN} more (--json has them all)"
    yield ""
    crashed = f", {log.crashed} crashed" if log.crashed else ""
    tried = count(log.experiments, "experiment") + crashed
    yield f"{log.metric}: {log.first:.4f} at first, {log.last:.4f} at last; {tried}"
    if log.sd is None:
        yield (
            "next: run the first and the last kept version on three seeds each; until something has been run twice, no "
            "gain can be told from luck"
        )
    else:
        yield (
            f"noise: repeats differ by {log.sd:.2g} (sd, {log.degrees} degrees of freedom). p is one-sided, of two "
            "single runs, by Holm's method over all experiments, since each could have been kept by luck."
        )
    if log.standing:
        yield "next: run what stands once more; an outlier among single runs looks like a gain"


def answer(log: KeepLog) -> str:
    """Return the sentence that answers which keeps stand up."""
    kept = count(len(log.keeps), "keep")
    if not log.keeps:
        return f"Nothing was kept after the first run, in {count(log.experiments, 'experiment')}."
    if log.sd is None:
        smallest = min(keep.gain for keep in log.keeps)
        return (
            f"None of {kept} can be judged: nothing was run twice, so the noise is unknown. The smallest that was kept "
            f"gains {smallest:.4f}."
        )
    standing = log.standing
    if not standing:
        return f"None of {kept} stands up: none gains more than two runs of one version may differ by."
    names = joined(keep.label for keep in standing[:3]) + (" and others" if len(standing) > 3 else "")
    return f"{len(standing)} of {kept} {'stands' if len(standing) == 1 else 'stand'} up: {names}."


def _line(keep: Keep, width: int) -> str:
    if keep.p is None:
        word, p = "noise unknown", ""
    else:
        word, p = "stands" if keep.stands else "not shown", f", p {p_value(keep.p).removeprefix('= ')}"
    gains = "gains" if keep.gain >= 0 else "loses"
    return f"{cut(keep.label, width):{width}}  {word:13}  {gains} {abs(keep.gain):.4f}{p}"
