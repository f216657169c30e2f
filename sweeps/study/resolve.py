"""Resolving: a study file, one of its profiles and the command line's changes become one mapping.

The place of every value is kept for error messages: a line of the file, a nanoGPT config, or an option.
"""

from __future__ import annotations

import copy
import glob
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.errors import SpecError
from sweeps.study.checkpoint import lay_checkpoint
from sweeps.study.config_baseline import lay_config, lay_dataset
from sweeps.study.messages import nearest, shorten
from sweeps.study.own import OwnConfig
from trainer import strict_yaml
from trainer.strict_yaml import YamlPath

_REPLACES: dict[str, set[str]] = {
    "source": {"parquet", "text", "bin"},
    "parquet": {"source", "bin"},
    "bin": {"source", "parquet", "text", "val_fraction", "min_chars", "dedup"},
    "iters": {"tokens", "minutes", "equal"},
    "tokens": {"iters", "minutes", "equal"},
    "minutes": {"iters", "tokens"},
    "choices": {"low", "high", "log", "step", "round"},
    "low": {"choices"},
    "high": {"choices"},
    "head_size": {"n_head"},
    "n_head": {"head_size"},
}
"""Keys that exclude others. Laid over a mapping, a key removes those that it excludes."""


@dataclass(kw_only=True)
class Resolved:
    """The mapping, not yet validated, and the place of each of its values."""

    name: str
    value: dict[str, Any]
    places: dict[YamlPath, str]
    baseline: str | None = None
    """the nanoGPT config, or the checkpoint, that replaces the file's baseline"""
    example: dict[str, Any] = field(default_factory=dict)
    """the file's own baseline, where another replaces it"""
    own: OwnConfig | None = None
    """the nanoGPT config as it was read"""
    mistakes: dict[YamlPath, str] = field(default_factory=dict)
    """what couldn't be read, by the path of the key that would mend it"""
    notes: list[str] = field(default_factory=list)
    """adjustments to show to the user"""

    def place(self, path: YamlPath) -> str:
        """Return where the value at `path` was written, or else the nearest mapping around it."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, self.name)

    def error(self, path: YamlPath, text: str) -> SpecError:
        """Return the error for a mistake at `path`: `studies/x.yaml:12: knobs.n_embd: ...`."""
        dotted = ".".join(str(part) for part in path)
        return SpecError(": ".join(part for part in (self.place(path), dotted, text) if part))

    def put(self, path: YamlPath, value: Any, place: str | dict[YamlPath, str], *, keep: Collection[str] = ()) -> None:
        """Set the value at `path`, creating the mappings above it. None removes the key.

        `place` is where the value was written, or the place of each of its parts by relative path. A key that
        excludes others removes them, except those in `keep`.
        """
        places = {(): place} if isinstance(place, str) else place
        holder, path = self._holder(path, places[()])
        key = path[-1]
        if isinstance(holder, list):
            holder[int(key)] = value
        elif value is None:
            holder.pop(str(key), None)
        else:
            new_type = key == "type" and holder.get("type") != value  # keys of one type mean nothing to another
            for excluded in (set(holder) if new_type else _REPLACES.get(str(key), set())) - set(keep):
                holder.pop(excluded, None)
                self._forget((*path[:-1], excluded))
            holder[str(key)] = value
        self._forget(path)
        if value is not None:
            self.places |= {(*path, *below): written for below, written in places.items()}

    def merge(self, path: YamlPath, over: dict[str, Any], places: dict[YamlPath, str]) -> None:
        """Lay the mapping `over` on the one at `path`: mappings merge, other values replace, None removes."""
        for key, value in over.items():
            below = (*path, key)
            inner = {relative[1:]: place for relative, place in places.items() if relative[:1] == (key,)}
            if not isinstance(value, dict):
                self.put(below, copy.deepcopy(value), inner, keep=over)
                continue
            if not isinstance(self._get(below), dict):
                self.put(below, {}, inner[()], keep=over)
            self.merge(below, value, inner)

    def _get(self, path: YamlPath) -> Any:
        value: Any = self.value
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def _holder(self, path: YamlPath, place: str) -> tuple[dict[str, Any] | list[Any], YamlPath]:
        """Return the mapping or list that holds `path`, created if missing, and `path` with list indices as numbers."""
        holder: Any = self.value
        for depth, part in enumerate(path):
            if isinstance(holder, list):
                part = _index(holder, path[:depth], part, place)
                path = (*path[:depth], part, *path[depth + 1 :])
            elif not isinstance(holder, dict):
                dotted = ".".join(str(part) for part in path[:depth])
                raise SpecError(f"{place}: {dotted} is {shorten(holder)} and has no {part!r} below it")
            if depth == len(path) - 1:
                break
            if isinstance(holder, dict) and part not in holder:
                holder[str(part)] = {}
                self.places[path[: depth + 1]] = place
            holder = holder[part]
        return holder, path

    def _forget(self, path: YamlPath) -> None:
        for known in [known for known in self.places if known[: len(path)] == path]:
            del self.places[known]
        self.mistakes = {known: text for known, text in self.mistakes.items() if known[: len(path)] != path}


def _index(holder: list[Any], above: YamlPath, part: str | int, place: str) -> int:
    text, dotted = str(part), ".".join(str(key) for key in above)
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) < len(holder)):
        raise SpecError(f"{place}: {dotted} is a list of {len(holder)}, counted from 0; it has no {text!r}")
    return int(text)


def resolve(
    path: str | Path,
    *,
    profile: str | None,
    overrides: Sequence[str],
    data: str | None,
    baseline: str | Path | None,
    devices_have_cuda: bool,
    start: str | None = None,
    log: str | None = None,
) -> Resolved:
    """Lay on the study file at `path` its profile, `--from`, `--baseline`, `--data` and each `--set`, in this order.

    A checkpoint that `start` or the file names brings its settings and its data along.

    Raises SpecError, or ConfigError for files that cannot be read.
    """
    document = strict_yaml.read(path)
    name = str(path)
    if not isinstance(document.value, dict):
        raise SpecError(f"{name}: is not a study, which needs keys such as name, baseline, horizon and knobs")
    places = {inside: f"{name}:{line}" for inside, line in document.lines.items()}
    resolved = Resolved(name=name, value=copy.deepcopy(document.value), places=places)
    profiles = resolved.value.pop("profiles", None)
    chosen = _profile(resolved, profiles, profile, devices_have_cuda=devices_have_cuda)
    if chosen is not None:
        inner = {inside[2:]: place for inside, place in places.items() if inside[:2] == ("profiles", chosen)}
        resolved.merge((), profiles[chosen] or {}, inner)
    if start is not None:
        resolved.put(("start",), {"checkpoint": start, **({} if log is None else {"log": log})}, "--from")
        resolved.example = resolved.value.pop("baseline", None) or {}
    elif log is not None:
        raise SpecError("--log: belongs to a checkpoint; name it with --from")
    if baseline is not None:
        lay_config(resolved, str(baseline))
    if data is not None:
        _lay_data(resolved, data)
    for override in overrides:
        _lay_override(resolved, override)
    data_given = data is not None or any(map(_sets_data, overrides))
    if not lay_checkpoint(resolved, data_given=data_given, from_option=start is not None):
        lay_dataset(resolved, data_given=data_given)
    return resolved


def _sets_data(override: str) -> bool:
    return override.partition("=")[0].strip().partition(".")[0] == "data"


def _profile(resolved: Resolved, profiles: Any, asked: str | None, *, devices_have_cuda: bool) -> str | None:
    """Return the profile to lay over the study: the one asked for, or that of the devices if the study has it."""
    if profiles is None and asked is None:
        return None
    if profiles is None:
        raise SpecError(f"--profile {asked}: {resolved.name} has no profiles; leave it out")
    if not isinstance(profiles, dict):
        raise resolved.error(
            ("profiles",), "is not a mapping of names to changes, such as cpu: {horizon: {iters: 400}}"
        )
    for name, changes in profiles.items():
        if not isinstance(changes, dict | None):
            raise resolved.error(("profiles", name), "is not a mapping of what the profile changes")
    if asked is not None and asked not in profiles:
        raise SpecError(
            f"--profile {asked}: {resolved.name} has no such profile; "
            f"it has {', '.join(profiles) or 'none'}{nearest(asked, profiles)}"
        )
    chosen = asked or ("cuda" if devices_have_cuda else "cpu")
    return chosen if chosen in profiles else None


def _lay_data(resolved: Resolved, data: str) -> None:
    """Replace the study's data by nanoGPT's folder of tokens, or by parquet: a file, glob, folder or URL."""
    path = Path(data).expanduser()
    if not data:
        raise SpecError("--data: is empty; give parquet files, or a folder with train.bin and val.bin")
    if not path.exists() and ("://" in data or glob.has_magic(data)):
        key, value = "parquet", data
    elif path.name in ("train.bin", "val.bin"):
        key, value = "bin", str(path.parent)
    elif path.is_dir():
        key, value = ("bin" if (path / "train.bin").exists() else "parquet"), data
    elif path.is_file():
        key, value = "parquet", data
    else:
        raise SpecError(f"--data {data}: there is no such file or folder")
    if not isinstance(resolved.value.get("data"), dict):
        resolved.put(("data",), {}, "--data")
    resolved.put(("data", key), value, "--data")


def _lay_override(resolved: Resolved, override: str) -> None:
    """Apply `a.b.c=value`, whose value is YAML; null removes the key."""
    dotted, equals, text = override.partition("=")
    parts = tuple(dotted.strip().split("."))
    if not equals or not all(parts):
        raise SpecError(f"--set {override}: is not KEY=VALUE, such as knobs.dropout.high=0.4")
    if not text.strip():
        raise SpecError(f"--set {override}: has no value; null removes a key")
    value = strict_yaml.load(text, name=f"--set {dotted}").value
    resolved.put(parts, value, "--set")
