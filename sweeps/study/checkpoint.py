"""The checkpoint that a study names: its settings become the baseline, and its data set the data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.study.baseline import DEFAULTS, NAMES, Value
from sweeps.study.dataset import folders_of, kind_of
from sweeps.study.model import as_yaml
from sweeps.study.start import SHAPE

if TYPE_CHECKING:
    from sweeps.study.resolve import Resolved
    from trainer.run.origin import OriginFacts


def lay_checkpoint(resolved: Resolved, *, data_given: bool, from_option: bool) -> bool:
    """Complete the study by the checkpoint that its `start` names, and return whether it names one.

    The checkpoint's settings are the baseline; settings that the study gives as well correct them, but not the shape.
    Its data set is the data where the study gives none; with `from_option`, the study's own data are an example, which
    only --data and --set (`data_given`) replace. Raises CheckpointError, SpecError.
    """
    start = resolved.value.get("start")
    named = start.get("checkpoint") if isinstance(start, dict) else None
    if not isinstance(named, str) or not named:
        return False  # whatever else it is, the check of the whole study explains it
    from trainer.run.origin import read_origin  # torch takes seconds to import

    facts = read_origin(Path(named).expanduser())
    _lay_settings(resolved, facts)
    if not data_given and (from_option or "data" not in resolved.value):
        _lay_data(resolved, facts, named)
    resolved.baseline = resolved.baseline or named
    resolved.notes += facts.notes
    return True


def _lay_settings(resolved: Resolved, facts: OriginFacts) -> None:
    given: Any = resolved.value.get("baseline") or {}
    if not isinstance(given, dict):
        return
    settings: dict[str, Value] = {name: value for name, value in facts.settings.items() if name in NAMES}
    for name in SHAPE:
        value = given.get(name)
        if value is None and name == "n_head" and "head_size" in given:
            continue
        if value is not None and name in settings and value != settings[name]:
            raise resolved.error(
                ("baseline", name),
                f"{as_yaml(value)} is not the checkpoint's {as_yaml(settings[name])}; drop it, and race other shapes",
            )
    corrected = {name: value for name, value in given.items() if name in settings and value != settings[name]}
    for name, value in corrected.items():
        resolved.notes.append(
            f"baseline.{name}: {as_yaml(value)} instead of the checkpoint's {as_yaml(settings[name])}"
        )
    heads, width = int(settings.pop("n_head", DEFAULTS["n_head"])), int(settings.get("n_embd", DEFAULTS["n_embd"]))
    places, mistakes = {name: resolved.place(("baseline", name)) for name in given}, resolved.mistakes
    resolved.put(("baseline",), {**settings, "head_size": width // heads}, str(facts.path))
    for name, value in given.items():
        if name not in ("n_head", "head_size"):
            resolved.put(("baseline", name), value, places[name])
    resolved.mistakes = mistakes  # the checkpoint has other values in their places, and --baseline is to correct them


def _lay_data(resolved: Resolved, facts: OriginFacts, named: str) -> None:
    """Name the folder of the checkpoint's data set. Raises SpecError where it is nowhere."""
    path = Path(named).expanduser()
    above = path.absolute().parent if path.is_dir() else path.absolute().parent.parent
    folders = list(folders_of(facts.dataset, beside=None, roots=(Path.cwd(), above))) if facts.dataset else []
    found = next((folder for folder in folders if kind_of(folder) == "bin"), None)
    if found is None:
        tried = ", ".join(map(str, folders)) or "nowhere, for it names no data set"
        raise resolved.error(
            ("data",),
            f"the data set {facts.dataset!r} of {facts.path} isn't there (tried: {tried}); name it with --data",
        )
    if not isinstance(resolved.value.get("data"), dict):
        resolved.put(("data",), {}, str(facts.path))
    resolved.put(("data", "bin"), str(found), str(facts.path))
    resolved.notes.append(f"data: {found}, the data set of {facts.path}")
