"""The study that `sweep init` writes."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from sweeps.errors import SpecError
from sweeps.paths import write_text
from sweeps.study import problem_with_name


def write_study(name: str, folder: Path) -> Path:
    """Write `folder`/NAME.yaml from the template in the package. Raises SpecError; never overwrites."""
    if problem := problem_with_name(name):
        raise SpecError(problem)
    path = folder / f"{name}.yaml"
    if path.exists():
        raise SpecError(f"{path}: is there already; choose another name")
    text = resources.files("sweeps").joinpath("templates/study.yaml").read_text(encoding="utf-8")
    text = re.sub(r"^name: \S+", f"name: {name}", text, count=1, flags=re.MULTILINE)
    try:
        write_text(path, text.replace("study.yaml", path.name))
    except OSError as error:
        raise SpecError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path
