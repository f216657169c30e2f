"""Messages about a broken study: pydantic's errors in the words of the person who wrote the file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from sweeps.study import pilot, sections, start
from sweeps.study.baseline import ELSEWHERE, NAMES, NOT_IN_CANDIDATES
from sweeps.study.knobs import KNOBS, ChoicesKnob, RangeKnob
from sweeps.study.model import Model, as_yaml, number_remedy
from sweeps.study.study import Study

TOP = (*(name for name in Study.model_fields if name not in ("notes", "origin", "own", "chosen")), "profiles")
"""The keys of a study file."""

_MODELS: dict[str, type[Model]] = {
    "<range>": RangeKnob,
    "<choices>": ChoicesKnob,
    "<source>": sections.EmbeddedData,
    "<parquet>": sections.ParquetData,
    "<bin>": sections.BinData,
    "<iters>": sections.IterHorizon,
    "<tokens>": sections.TokenHorizon,
    "<minutes>": sections.MinuteHorizon,
    "<checkpoint>": start.CheckpointStart,
    "<train>": start.TrainStart,
    "gpt2": sections.Gpt2Tokenizer,
    "bpe": sections.BpeTokenizer,
    "bytes": sections.BytesTokenizer,
    "plateau": sections.PlateauPruning,
    "median": sections.MedianPruning,
    "hyperband": sections.HyperbandPruning,
    "none": sections.NoPruning,
    "sampler": sections.Sampler,
    "confirm": sections.Confirm,
    "workers": sections.Workers,
    "race": start.Race,
    "pilot": pilot.Pilot,
    "train": start.TrainLimits,
}
"""Members of unions by their tags, other sections by their keys."""

_LIMITS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}
_NOT_IN_CANDIDATES = ELSEWHERE | NOT_IN_CANDIDATES
_BOOLEANS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}

Path = tuple[str | int, ...]


def first(error: ValidationError) -> tuple[Path, str]:
    """Return the mistake to report first: its path in the document and what is wrong there.

    An unknown key goes first, because a misspelt key makes the right one seem missing.
    """
    mistakes: list[Any] = error.errors(include_url=False)
    return _explained(min(mistakes, key=lambda mistake: mistake["type"] != "extra_forbidden"))


def of_baseline(error: ValidationError, *, together: bool) -> list[tuple[Path, str]]:
    """Return every mistake in the baseline, as (path, text); `together`: also settings that don't go together."""
    found: list[tuple[Path, str]] = []
    for mistake in error.errors(include_url=False):
        path, text = _explained(mistake)
        if path[:1] == ("baseline",) and (together or mistake["type"] != "mistake"):
            found += [((*path[:1], *_named(line, path)), line) for line in text.splitlines()]
    return found


def _named(text: str, path: Path) -> Path:
    """Return the setting at the start of a text such as "n_embd=100 is not divisible", or else the path's own."""
    name = text.partition("=")[0]
    return (name,) if name in NAMES else path[1:]


def _explained(mistake: Mapping[str, Any]) -> tuple[Path, str]:
    """Return the path of one of pydantic's mistakes, and what is wrong there."""
    loc, value, context = tuple(mistake["loc"]), mistake["input"], mistake.get("ctx", {})
    match mistake["type"]:
        case "extra_forbidden":
            return _plain(loc), _unknown(loc)
        case "missing":
            return _plain(loc[:-1]), f"{loc[-1]} is missing"
        case "mistake":
            return (*_plain(loc), *context["path"]), str(context["text"])
        case "union_tag_not_found":
            return _plain(loc), f"needs a type: {_options(_types(loc))}"
        case "union_tag_invalid":
            return (*_plain(loc), "type"), _not_one_of(context["tag"], _quoted(context["expected_tags"]))
    if loc in (("sampler",), ("pruner",), ("tokenizer",)) and re.fullmatch("[a-z0-9]{1,20}", str(value)):
        return loc, f"{shorten(value)} is not a mapping; write {{type: {value}}}"
    return _plain(loc), _explain(mistake["type"], value, context, str(mistake["msg"]))


def _plain(loc: Path) -> Path:
    """Return a pydantic location without the tags of unions."""
    result: list[str | int] = []
    for part in loc:
        tag = str(part).startswith("<") or (part in _MODELS and result[-1:] in (["tokenizer"], ["pruner"]))
        if not tag:
            result.append(part)
    return tuple(result)


def _types(loc: Path) -> tuple[str, ...]:
    return ("gpt2", "bpe", "bytes") if loc[-1] == "tokenizer" else ("plateau", "median", "hyperband", "none")


def _explain(kind: str, value: Any, context: Mapping[str, Any], message: str) -> str:
    """Explain pydantic's error of this kind; `message` is pydantic's own text."""
    shown = shorten(value)
    if kind in _LIMITS:
        key, words = _LIMITS[kind]
        return f"{shown} must be {words} {as_yaml(context[key])}"
    if kind == "int_type":
        if isinstance(value, float) and value.is_integer():
            return f"{value} is not a whole number; write {int(value)}"
        return f"{shown} is not a whole number{number_remedy(value)}"
    if kind == "float_type":
        return f"{shown} is not a number{number_remedy(value)}"
    if kind == "finite_number":
        return f"{value} is not a finite number"
    if kind == "bool_type":
        remedy = _BOOLEANS.get(str(value).lower())
        return f"{shown} is neither true nor false" + (f"; write {remedy}" if remedy else "")
    if kind == "string_type":
        quotable = isinstance(value, int | float)
        return f"{shown} is not text" + (f"; write it in quotes: '{shown}'" if quotable else "")
    if kind == "string_too_short":
        return "is empty"
    if kind in ("dict_type", "model_type", "model_attributes_type"):
        return f"{shown} is not a mapping (key: value)"
    if kind in ("tuple_type", "list_type"):
        return f"{shown} is not a list"
    if kind == "literal_error":
        return _not_one_of(value, _quoted(context["expected"]))
    return message


def shorten(value: Any) -> str:
    """Return a value as in the document, cut to one line."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value) if isinstance(value, str) else as_yaml(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _quoted(text: str) -> list[str]:
    return re.findall(r"'([^']*)'", text)


def _options(names: Iterable[str]) -> str:
    return ", ".join(names)


def _not_one_of(value: Any, names: list[str]) -> str:
    options = names[0] if len(names) == 1 else f"one of {_options(names)}"
    return f"{shorten(value)} is not {options}{nearest(value, names)}"


def nearest(value: Any, names: Iterable[str]) -> str:
    """Return "; did you mean dropout?" if one of `names` is similar, else an empty string."""
    near = difflib.get_close_matches(str(value), list(names), n=1, cutoff=0.65)
    return f"; did you mean {near[0]}?" if near else ""


def _unknown(loc: Path) -> str:
    """Explain a key that is unknown at its place."""
    *above, key = loc
    section = str(above[-1]) if above else ""
    unknown = f"unknown key {shorten(key)}"
    if not above:
        if key in NAMES:
            return f"{unknown}; it belongs to the baseline: baseline.{key}"
        return unknown + (nearest(key, TOP) or f"; the keys are {_options(TOP)}")
    if section == "baseline" or above[0] == "candidates":
        kind, refused = ("baseline", ELSEWHERE) if section == "baseline" else ("candidate", _NOT_IN_CANDIDATES)
        if key in refused:
            return f"{key} can't be set in a {kind}: {refused[str(key)]}"
        return unknown + (nearest(key, (*NAMES, "head_size")) or "; settings have nanoGPT's names")
    if section == "knobs":
        if key in NAMES or key in ELSEWHERE:
            return f"{key} can't be swept; the knobs are {_options(KNOBS)}"
        return unknown + (nearest(key, KNOBS) or f"; the knobs are {_options(KNOBS)}")
    keys = [name for name in _MODELS[section].model_fields if name != sections.NOT_WRITTEN]
    in_union = {name for tag, model in _MODELS.items() if tag.startswith("<") for name in model.model_fields}
    if section.startswith("<") and key in in_union - set(keys):
        return f"{key} can't be combined with {_options(_keys_of(section))}; drop one"
    return unknown + (nearest(key, keys) or f"; the keys are {_options(keys)}")


def _keys_of(tag: str) -> tuple[str, ...]:
    """Return the keys by which a member of a union is recognised."""
    return ("low", "high") if tag == "<range>" else (tag.strip("<>"),)
