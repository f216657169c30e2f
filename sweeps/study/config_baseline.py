"""The nanoGPT config that `--baseline` names: its settings become the baseline, and its dataset names the data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.study.baseline import NAMES, Value
from sweeps.study.dataset import folders_of, kind_of
from sweeps.study.own import OwnConfig
from sweeps.text import joined
from trainer import config_file
from trainer.config_file import Reading
from trainer.nanogpt import DEFAULTS
from trainer.strict_yaml import YamlPath

if TYPE_CHECKING:
    from sweeps.study.resolve import Resolved

OF_THE_MACHINE = ("dtype", "compile")
"""settings of a baseline that may depend on the machine, and then are nanoGPT's"""


def lay_config(resolved: Resolved, path: str) -> None:
    """Replace the study's baseline by a nanoGPT config. Missing settings have nanoGPT's defaults, not the study's.

    What can't be read of the settings that trials use becomes `mistakes` of the study, which --set can still mend.
    Raises ConfigError for a file that isn't a Python text.
    """
    reading = config_file.read_file(path)
    before = resolved.value.get("baseline")
    settings: dict[str, Value] = {key: value for key, value in reading.settings.items() if key in NAMES}
    places: dict[YamlPath, str] = {(key,): f"{path}:{reading.lines[key]}" for key in settings}
    if isinstance(before, dict) and "head_size" in before:
        width, heads = (int(settings.get(key, DEFAULTS[key])) for key in ("n_embd", "n_head"))
        if heads > 0 and width % heads == 0:
            settings.pop("n_head", None)
            settings["head_size"] = width // heads
            places[("head_size",)] = places.pop(("n_head",), path)
    resolved.example = dict(before) if isinstance(before, dict) else resolved.example
    resolved.put(("baseline",), settings, {(): path, **places})
    resolved.baseline = path
    resolved.mistakes |= _mistakes(reading, path)
    resolved.notes += _notes(reading, path)
    unread = {key: value.source for key, value in reading.unread.items()}
    resolved.own = OwnConfig(file=path, settings=reading.settings, unread=unread, others=reading.others)


def _mistakes(reading: Reading, path: str) -> dict[YamlPath, str]:
    """Return the text of each mistake by the place that would mend it."""
    wrong: dict[YamlPath, str] = {
        ("baseline", path, line): f"{path}:{line}: {text}" for line, text in reading.wrong.items()
    }
    unread: dict[YamlPath, str] = {
        ("baseline", key): f"{path}:{value.line}: {key}: {value.why}"
        for key, value in reading.unread.items()
        if key in NAMES and key not in OF_THE_MACHINE
    }
    return {**wrong, **unread}


def _notes(reading: Reading, path: str) -> Iterator[str]:
    """Yield what was passed over, and what trials do otherwise."""
    passed = [f"line {line} ({text.split(' sets nothing')[0]})" for line, text in sorted(reading.passed.items())]
    unused = [
        f"{key} (line {value.line}{f', trials use {DEFAULTS[key]}' if key in OF_THE_MACHINE else ''})"
        for key, value in reading.unread.items()
        if key not in NAMES or key in OF_THE_MACHINE
    ]
    if passed or unused:
        yield f"{path}: passed over, because a study needs no value of them: {joined([*passed, *unused])}"
    if reading.others:
        yield f"{path}: passed over, because nanoGPT has no such keys: {joined(reading.others)}"
    start = reading.settings.get("init_from", "scratch")
    if start != "scratch":
        yield f"{path} has init_from = {start!r}; the study's trials start from scratch"
    if reading.settings.get("eval_only"):
        yield f"{path} has eval_only = True; the study's trials train"


def lay_dataset(resolved: Resolved, *, data_given: bool) -> None:
    """Make the config's data set the study's data, where neither the command line nor the study names files.

    Raises SpecError for a data set that is nowhere: the embedded corpus would be another run's data.
    """
    own, data = resolved.own, resolved.value.get("data")
    if own is None or data_given:
        return
    says, folders = _dataset(own)
    if isinstance(data, dict) and data.keys() & {"parquet", "bin"}:
        resolved.notes.append(f"data: as {resolved.name} names them, although {says}")
        return
    found = next((folder for folder in folders if kind_of(folder)), None)
    if found is None:
        resolved.mistakes["data",] = str(resolved.error(("data",), f"{says}{_nowhere(folders)}"))
        return
    if not isinstance(data, dict):
        resolved.put(("data",), {}, own.file)
    resolved.put(("data", str(kind_of(found))), str(found), own.file)
    resolved.notes.append(f"data: {found}, as {says}")


def _dataset(own: OwnConfig) -> tuple[str, list[Path]]:
    """Return what a config says of its data set, in words, and where that may be."""
    if "dataset" in own.unread:
        return f"the dataset of {own.file} can't be read: {own.unread['dataset']}", []
    name = str(own.settings.get("dataset", DEFAULTS["dataset"]))
    says = f"the dataset of {own.file} is {name!r}"
    if "dataset" not in own.settings:
        says = f"{own.file} sets no dataset, and nanoGPT's default is {name!r}"
    beside = Path(own.file).absolute().parent
    return says, list(folders_of(name, beside=beside, roots=(beside, beside.parent, Path.cwd())))


def _nowhere(folders: list[Path]) -> str:
    """Return why none of the folders serves, and the remedy."""
    for folder in folders:
        if folder.is_dir():
            return f", but {folder} holds no train.bin: run its prepare.py, or name other data with --data"
    tried = f", which isn't there (tried: {', '.join(map(str, folders))})" if folders else ""
    return f"{tried}; name the data with --data"
