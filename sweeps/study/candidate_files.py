"""Candidates from nanoGPT configs: what each file changes in the baseline is a candidate of the study.

A file is read as data, as `--baseline` is, and never executed. What it sets as the baseline has it changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from sweeps.errors import SpecError
from sweeps.study.baseline import NAMES, Value, complete
from sweeps.study.resolve import Resolved
from sweeps.text import joined
from trainer import config_file


def lay_candidates(resolved: Resolved, files: Sequence[str]) -> None:
    """Add a candidate per file to the study's own. Raises SpecError, and ConfigError for a file that isn't a config."""
    for file in files:
        reading = config_file.read_file(file)
        wrong = [f"{file}:{line}: {text}" for line, text in reading.wrong.items()]
        wrong += [f"{file}:{value.line}: {key}: {value.why}" for key, value in reading.unread.items() if key in NAMES]
        if wrong:
            raise SpecError("\n".join(wrong))
        changes = _changes(resolved, {key: value for key, value in reading.settings.items() if key in NAMES})
        if not changes:
            raise SpecError(f"--candidate {file}: changes nothing of the baseline that trials use; drop it")
        others = [key for key in reading.settings if key not in NAMES]
        if others:
            resolved.notes.append(f"{file}: passed over, because it is no setting of a trial: {joined(others)}")
        candidates = resolved.value.get("candidates") or []
        resolved.value["candidates"] = [*candidates, changes]
        place = len(candidates)
        resolved.places |= {("candidates", place): file}
        resolved.places |= {("candidates", place, key): f"{file}:{reading.lines[key]}" for key in changes}


def _changes(resolved: Resolved, settings: dict[str, Value]) -> dict[str, Value]:
    """Return the settings that differ from the baseline's. With head_size, a number of heads that follows is none."""
    baseline = complete(resolved.value.get("baseline") or {})
    if "head_size" in baseline and "n_head" in settings:
        width = int(settings.get("n_embd", baseline["n_embd"]))
        if width == int(settings["n_head"]) * int(baseline["head_size"]):
            settings = {key: value for key, value in settings.items() if key != "n_head"}
    return {key: value for key, value in settings.items() if baseline.get(key) != value}
