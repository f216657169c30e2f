"""The JSON Schema of a study file, for editors: every key with its words, its type and its limits."""

from __future__ import annotations

import copy
import re
from importlib import resources
from pathlib import Path
from typing import Any

from sweeps.errors import SpecError
from sweeps.study.study import Study, problem_with_name
from trainer.atomic import write_text

_SUFFIX = "Change"


def json_schema() -> dict[str, Any]:
    """The schema (draft 2020-12) of a study file, profiles included.

    What YAML Schema can't say (ranges that hold the baseline, widths that heads divide) is checked by `spec.load`.
    """
    schema = Study.model_json_schema()
    del schema["properties"]["notes"]
    needed = schema.pop("required")
    definitions = schema.pop("$defs")
    partial = {f"{name}{_SUFFIX}": _partial(definition) for name, definition in definitions.items()}
    profile = _partial({key: schema[key] for key in ("type", "properties", "additionalProperties")})
    profile["description"] = "what this profile changes: mappings merge, the rest replaces, null removes"
    schema["properties"]["profiles"] = {
        "type": "object",
        "description": "changes for a machine: cpu and cuda are picked by the devices found, others by --profile",
        "properties": {
            name: {**profile, "description": f"where {there}: {profile['description']}"}
            for name, there in (("cpu", "there is no CUDA device"), ("cuda", "there is a CUDA device"))
        },
        "additionalProperties": profile,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "plateau-sweep study",
        "description": "What is swept around a baseline, for how long, on what data.",
        **{key: value for key, value in schema.items() if key not in ("title", "description")},
        "anyOf": [{"required": needed}, {"required": ["profiles"]}],  # profiles may bring what is missing
        "$defs": {**definitions, **partial},
    }


def _partial(schema: Any) -> Any:
    """`schema` of something laid over another: nothing is required, and null removes a key."""
    if isinstance(schema, list):
        return [_partial(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    result: dict[str, Any] = {}
    for key, value in copy.deepcopy(schema).items():
        if key == "properties":
            result[key] = {name: _nullable(_partial(each)) for name, each in value.items()}
        elif key == "$ref":
            result[key] = value + _SUFFIX
        elif key == "oneOf":  # without what is required, alternatives overlap
            result["anyOf"] = _partial(value)
        elif key not in ("required", "default", "discriminator"):
            result[key] = _partial(value) if key in ("anyOf", "items") else value
    return result


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    description = schema.pop("description", None)
    words = {} if description is None else {"description": description}
    return {"anyOf": [schema, {"type": "null"}], **words}


def write_study(name: str, folder: Path) -> Path:
    """Write `folder`/NAME.yaml from the template in the package. Raises SpecError; never overwrites."""
    if problem := problem_with_name(name):
        raise SpecError(problem)
    path = folder / f"{name}.yaml"
    if path.exists():
        raise SpecError(f"{path}: is there already; choose another name")
    text = resources.files("sweeps.study").joinpath("templates/study.yaml").read_text(encoding="utf-8")
    text = re.sub(r"^name: \S+", f"name: {name}", text, count=1, flags=re.MULTILINE)
    try:
        write_text(path, text.replace("study.yaml", path.name))
    except OSError as error:
        raise SpecError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path
