"""Diagnoses of a folder of logs beside the readings in its `readings.json`.

    python -m benchmarks.diagnose.logs FOLDER [--json]

`readings.json` is a list of {file, verdict, cause, must_not_say}, in an expert's words. Beside X.log may lie
X.config.py, the run's nanoGPT config. A reading may name its `data` folder. For each log the table has the verdict, the
first three findings and whether they agree: the verdict by `VERDICTS`, a cause among the first two findings by
`CAUSES`, and nothing said that must not be. Seconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.commands import argument_errors, parser_of
from sweeps.diagnose import source
from sweeps.diagnose.diagnosis import Diagnosis, diagnosis_of
from sweeps.diagnose.judgement import RunState
from sweeps.errors import LogError
from trainer.errors import UserError

VERDICTS: Mapping[str, tuple[str, ...]] = {
    "healthy": ("improving",),
    "improving": ("improving",),
    "plateau": ("plateau",),
    "soft_plateau": ("plateau", "improving"),
    "slow_then_flat": ("plateau",),
    "slow_improvement_with_gap": ("improving",),
    "slow_not_plateau": ("improving",),
    "not_plateau_too_short": ("too_short",),
    "overfitting": ("overfitting",),
    "divergence": ("diverged",),
    "nan": ("nan",),
    "broken_val": ("broken_data",),
    "foreign_format": ("unreadable",),
}
"""an expert's verdict and the words of a diagnosis that agree with it"""
CAUSES: Mapping[str, tuple[str, ...]] = {
    r"capacity|n_embd|n_layer": ("capacity_limited",),
    r"dropout": ("dropout_on_underfit",),
    r"data-limited": ("data_limited",),
    r"annealed|decay over": ("schedule_exhausted", "lr_decayed_early"),
    r"weight decay": ("weight_decay_too_strong",),
    r"fp16": ("precision_overflow",),
    r"val minimum|train set": ("overfitting",),
    r"too low": ("lr_too_low",),
    r"warmup": ("warmup_too_long",),
    r"unclipped|too high": ("lr_too_high", "instability"),
    r"val.bin": ("val_mismatch",),
    r"no update": ("no_update",),
    r"pinned": ("resume_pinned_at_min_lr",),
    r"spike after a resume": ("resume_shock",),
    r"accumulation": ("accumulation_mis_scaled",),
    r"eval_iters": ("eval_noise",),
    r"batch": ("batch_too_small", "batch_noise"),
}
"""words of an expert's cause and the findings that agree with them"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A log's diagnosis beside its reading."""

    file: str
    read: str
    """the expert's verdict"""
    verdict: str
    since: int | None
    findings: tuple[str, ...]
    """the first three"""
    contradicted: tuple[str, ...]
    verdict_agrees: bool
    cause_agrees: bool
    said: tuple[str, ...]
    """what must not be said and was"""


def row_of(reading: Mapping[str, Any], folder: Path) -> Row:
    """Return the row of one log."""
    log = folder / reading["file"]
    config = log.with_suffix(".config.py")
    found: Diagnosis | None = None
    try:
        given = source.read_given(
            config=config if config.exists() else None, data=folder / reading["data"] if "data" in reading else None
        )
        found = diagnosis_of(source.read_logs([str(log)])[0], given)
    except LogError:
        verdict, since, codes, against = str(RunState.UNREADABLE), None, (), ()
    else:
        verdict, since = str(found.judgement.state), found.judgement.since
        codes = tuple(str(finding.code) for finding in found.findings)
        against = tuple(str(contradiction.code) for contradiction in found.contradicted)
    causes = [names for words, names in CAUSES.items() if re.search(words, reading["cause"])]
    return Row(
        file=reading["file"],
        read=reading["verdict"],
        verdict=verdict,
        since=since,
        findings=codes[:3],
        contradicted=against,
        verdict_agrees=verdict in VERDICTS[reading["verdict"]],
        cause_agrees=not causes or any(set(names) & set(codes[:2]) for names in causes),
        said=tuple(word for word in reading["must_not_say"].split(",") if word in (verdict, *codes)),
    )


def main() -> None:
    """Run the command."""
    parser = parser_of(__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder with logs and a readings.json")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    with argument_errors(parser):
        rows = [row_of(reading, options.folder) for reading in _readings(options.folder)]
    if options.json:
        print(json.dumps([asdict(row) for row in rows]))
        return
    print("| log | read as | verdict | since | first findings | agrees |\n|---|---|---|---|---|---|")
    for row in rows:
        parts = {"verdict": row.verdict_agrees, "cause": row.cause_agrees, "nothing false": not row.said}
        wrong = ", ".join(name for name, good in parts.items() if not good)
        since = "" if row.since is None else f"{row.since:,}"
        agrees = "yes" if not wrong else f"no: {wrong}"
        print(f"| {row.file} | {row.read} | {row.verdict} | {since} | {', '.join(row.findings)} | {agrees} |")
    agreeing = sum(row.verdict_agrees and row.cause_agrees and not row.said for row in rows)
    print(f"\n{agreeing} of {len(rows)} agree.")


def _readings(folder: Path) -> list[dict[str, Any]]:
    path = folder / "readings.json"
    try:
        found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    return found


if __name__ == "__main__":
    main()
