"""Logs of other trainers: recognised by their lines, and refused with a command that converts their validation losses.

The commands write lines of nanoGPT's form, `step 500: val loss 4.1375`, which this room reads.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

_N = r"[0-9.eE+-]+"
_NUMERIC = re.compile(r"[-+]?\d+\.?\d*(e[-+]?\d+)?|nan")


@dataclass(frozen=True, kw_only=True)
class Format:
    """A trainer's log: what its lines look like, and the `sed -nE` script that converts them."""

    name: str
    line: re.Pattern[str]
    script: str


_FORMATS = (
    Format(
        name="llm.c (main.log)",
        line=re.compile(r"^\s*s:\d+ (?:tel|trl|eval):"),
        script=rf"s/^s:([0-9]+) tel:({_N}).*/step \1: val loss \2/p",
    ),
    Format(
        name="modded-nanogpt",
        line=re.compile(r"step:\d+/\d+\b.{0,60}? (?:val_loss|train_loss|train_time):"),
        script=rf"s/.*step:([0-9]+)\/[0-9]+.* val_loss:({_N}).*/step \1: val loss \2/p",
    ),
    Format(
        name="build-nanogpt (log.txt)",
        line=re.compile(r"^\d+ (?:val|train|hella) [\d.]+\s*$"),
        script=rf"s/^([0-9]+) val ({_N}).*/step \1: val loss \2/p",
    ),
    Format(
        name="LitGPT",
        line=re.compile(r"iter \d+ step \d+ \| loss train: "),
        script=rf"s/.*step ([0-9]+) \| loss train: ({_N}), val: ({_N}) .*/step \1: train loss \2, val loss \3/p",
    ),
    Format(
        name="Megatron-LM",
        line=re.compile(r"iteration\s+\d+/\s*\d+ \||validation loss at iteration \d+ \|"),
        script=rf"s/.*validation loss at iteration ([0-9]+) \| lm loss value: ({_N}) .*/step \1: val loss \2/p",
    ),
)
_NO_STEPS = (
    (re.compile(r"^\s*step\s+\d+\s*(?:/\s*\d+)?\s*\|\s*(?:train )?loss:?\s"), "llm.c or build-nanogpt (its screen)"),
    (re.compile(r"\{'(?:loss|eval_loss)': '?\d"), "the HF Trainer (its screen)"),
    (re.compile(r"^\s*Step \d+/\d+ \| (?:Example step|Average reward)"), "nanochat's chat_rl"),
)
"""screens of trainers whose log is another file, in which each loss has its step"""
_INSTEAD = {
    "llm.c or build-nanogpt (its screen)": "give its log file instead (main.log or log.txt)",
    "the HF Trainer (its screen)": "give trainer_state.json from its output folder instead",
    "nanochat's chat_rl": "its losses are a policy's and have no plateau; give the log of base_train or chat_sft",
}
_STEPS = ("step", "_step", "steps", "iter", "iters", "iteration", "global_step", "trainer/global_step")
"""names of a table's column of steps"""
_JSON_LINES = 1000
"""lines of a file of JSON lines whose keys are looked at"""
_BINARY = 0.1
"""share of characters that aren't text from which on a file is binary"""


def binary(text: str) -> str | None:
    """Say that a text is none, judged by its first 100,000 characters without runs of NUL; None if it is one."""
    if "brain.Event:" in text[:64]:
        return "is a TensorBoard event file"
    sample = re.sub("\0{8,}", "", text[:100_000])
    odd = sum(not (char.isprintable() or char in "\t\n\r\b\x1b\x07") or char == "\ufffd" for char in sample)
    return "is binary" if odd > _BINARY * len(sample) else None


def recognise(text: str, lines: Sequence[str], *, losses: int, name: str) -> str | None:
    """Say what a foreign log is and how to convert it; None if it isn't one, or if `losses` of ours outnumber it."""
    if 2 * losses > len(lines):
        return None
    quoted = shlex.quote(name)
    for kind in _FORMATS:
        if sum(kind.line.search(line) is not None for line in lines) > losses:
            command = f"sed -nE {shlex.quote(kind.script)} {quoted} > converted.log"
            return f"is a log of {kind.name}, which isn't read as it is; convert its validation losses: {command}"
    for pattern, trainer in _NO_STEPS:
        if sum(pattern.search(line) is not None for line in lines) > losses:
            return f"is a log of {trainer}, which isn't read; {_INSTEAD[trainer]}"
    return None if losses else _table(text, quoted)


def _table(text: str, quoted: str) -> str | None:
    """Say what a file of JSON or a table is and how to convert it."""
    first, second = (*map(str.strip, text.strip().split("\n", 2)[:2]), "")[:2]
    if first.startswith("{"):
        return _json(text, first, quoted)
    cells, values = ([cell.strip(" \"'").lower() for cell in re.split(r"[,;\t]", line)] for line in (first, second))
    step = next((number for number, cell in enumerate(cells, start=1) if cell in _STEPS), None)
    losses = [place for place, cell in enumerate(cells, start=1) if "loss" in cell or "bpb" in cell or cell == "value"]
    is_row = 1 < len(cells) == len(values) and any(_NUMERIC.fullmatch(values[place - 1]) for place in losses)
    if step is None and is_row:
        return (
            f"is a table with a loss per run and no curve; `sweep judge {quoted}` says which changes are real, or give "
            "the log of the run you mean"
        )
    if len(cells) > 1 and step is not None:
        loss = next((number for number in losses if "val" in cells[number - 1]), losses[0] if losses else None)
        if loss is not None:
            separator = next(mark for mark in ("\t", ";", ",") if mark in first).replace("\t", "\\t")
            script = f'NR > 1 {{ gsub(/"/, ""); print "step " ${step} ": val loss " ${loss} }}'
            command = f"awk -F'{separator}' {shlex.quote(script)} {quoted} > converted.log"
            return f"is a table and no log; if column {loss} is the validation loss, convert it: {command}"
    return None


def _json(text: str, first: str, quoted: str) -> str | None:
    try:
        whole = json.loads(text)
    except (RecursionError, ValueError):
        whole = None
    if isinstance(whole, dict) and isinstance(whole.get("log_history"), list):
        script = f".log_history[] | {_jq('step', 'eval_loss', 'loss')}"
        return (
            "is the HF Trainer's state, which isn't read as it is; convert its losses: "
            f"jq -r {shlex.quote(script)} {quoted} > converted.log"
        )
    keys: dict[str, None] = {}
    for line in [first, *text.split("\n", _JSON_LINES)[:_JSON_LINES]]:
        try:
            row = json.loads(line)
        except (RecursionError, ValueError):
            continue
        if isinstance(row, dict):
            keys.update(dict.fromkeys(row))
    step = next((key for key in keys if key in (*_STEPS, "current_steps")), None)
    losses = [key for key in keys if "loss" in key]
    if step is None or not losses:
        return None
    val = next((key for key in losses if "val" in key), None)
    train = next((key for key in losses if "val" not in key), None)
    return f"is JSON and no log; convert it: jq -r {shlex.quote(_jq(step, val, train))} {quoted} > converted.log"


def _jq(step: str, val: str | None, train: str | None) -> str:
    """Return the script of jq that writes an object's losses as lines of nanoGPT's form."""
    lines = []
    if val is not None:
        lines.append(rf'if .["{val}"] != null then "step \(.["{step}"]): val loss \(.["{val}"])" else empty end')
    if train is not None:
        lines.append(rf'if .["{train}"] != null then "iter \(.["{step}"]): loss \(.["{train}"])" else empty end')
    return ", ".join(lines) if len(lines) == 1 else f"({', '.join(lines)})"
