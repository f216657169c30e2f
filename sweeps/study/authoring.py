"""Help for writing a study file: its JSON Schema for editors, and the file that `sweep init` writes."""

from __future__ import annotations

import copy
import json
import re
import textwrap
from importlib import resources
from pathlib import Path
from typing import Any

from sweeps.errors import SpecError
from sweeps.study.baseline import NAMES
from sweeps.study.knobs import batch_sizes_around
from sweeps.study.study import Study, problem_with_name
from sweeps.text import count
from trainer.atomic import write_text
from trainer.config import TrainConfig
from trainer.schedule import lr_at

_SUFFIX = "Change"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a study file, profiles included.

    A schema can't express that ranges contain the baseline or that heads divide widths: `load` checks these.
    """
    schema = Study.model_json_schema()
    del schema["properties"]["notes"]
    for name in ("origin", "own", "chosen"):
        schema["properties"].pop(name, None)
    required = [name for name in schema.pop("required") if name != "baseline"]  # a checkpoint may bring it
    definitions = schema.pop("$defs")
    partial = {f"{name}{_SUFFIX}": _partial(definition) for name, definition in definitions.items()}
    profile = _partial({key: schema[key] for key in ("type", "properties", "additionalProperties")})
    profile["description"] = "what this profile changes: mappings merge, the rest replaces, null removes"
    schema["properties"]["profiles"] = {
        "type": "object",
        "description": "changes per machine: cpu or cuda is picked by the devices found, any other by --profile",
        "properties": {
            name: {**profile, "description": f"where {condition}: {profile['description']}"}
            for name, condition in (("cpu", "there is no CUDA device"), ("cuda", "there is a CUDA device"))
        },
        "additionalProperties": profile,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "plateau-sweep study",
        "description": "What is swept around a baseline, for how long, on what data.",
        **{key: value for key, value in schema.items() if key not in ("title", "description")},
        "anyOf": [{"required": required}, {"required": ["profiles"]}],  # a profile may supply a required key
        "$defs": {**definitions, **partial},
    }


def _partial(schema: Any) -> Any:
    """Return `schema` for a mapping laid over another: nothing is required, and null removes a key."""
    if isinstance(schema, list):
        return [_partial(alternative) for alternative in schema]
    if not isinstance(schema, dict):
        return schema
    result: dict[str, Any] = {}
    for key, value in copy.deepcopy(schema).items():
        if key == "properties":
            result[key] = {name: _nullable(_partial(setting)) for name, setting in value.items()}
        elif key == "$ref":
            result[key] = value + _SUFFIX
        elif key == "oneOf":  # alternatives without required keys overlap, so more than one may match
            result["anyOf"] = _partial(value)
        elif key not in ("required", "default", "discriminator"):
            result[key] = _partial(value) if key in ("anyOf", "items") else value
    return result


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    description = schema.pop("description", None)
    words = {} if description is None else {"description": description}
    return {"anyOf": [schema, {"type": "null"}], **words}


def write_study(name: str, folder: Path, *, checkpoint: str | None = None, log: str | None = None) -> Path:
    """Write `folder`/NAME.yaml from the packaged template and return its path.

    With `checkpoint`, the study goes on from it; `log` is what was printed while it trained. Raises SpecError for a bad
    name, a file that exists already, or a folder that can't be written to, and CheckpointError.
    """
    if problem := problem_with_name(name):
        raise SpecError(problem)
    path = folder / f"{name}.yaml"
    if path.exists():
        raise SpecError(f"{path}: exists already; choose another name")
    if log is not None and checkpoint is None:
        raise SpecError("--log: belongs to a checkpoint; name it with --from")
    text = _template("study.yaml") if checkpoint is None else _around(checkpoint, log)
    text = re.sub(r"^name: \S+", f"name: {name}", text, count=1, flags=re.MULTILINE)
    try:
        write_text(path, text.replace("study.yaml", path.name))
    except OSError as error:
        raise SpecError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path


def _template(name: str) -> str:
    return resources.files("sweeps.study").joinpath("templates", name).read_text(encoding="utf-8")


def _around(checkpoint: str, log: str | None) -> str:
    """Return the template of a study of branches, filled with what the checkpoint says."""
    from trainer.run.origin import read_origin  # torch takes seconds to import

    facts = read_origin(Path(checkpoint).expanduser())
    known = {name: value for name, value in facts.settings.items() if name in NAMES}
    config = TrainConfig.from_mapping({**known, "vocab_size": facts.vocab_size})
    rate = lr_at(facts.iter_num, config)
    described = (
        f"{checkpoint}: iteration {facts.iter_num:,}, {count(config.n_layer, 'layer')}, width {config.n_embd}, "
        f"context {config.block_size}, best validation loss {facts.best_val_loss:.4f}"
    )
    lines = "\n# ".join(textwrap.wrap(" ".join([described + ".", *facts.notes]), 116))
    named = json.dumps(checkpoint) + ("" if log is None else f", log: {json.dumps(log)}")
    values = {
        "FACTS": lines,
        "CHECKPOINT": named,
        "LOW": f"{rate / 5:.2g}",
        "HIGH": f"{rate * 5:.2g}",
        "RATE": f"{rate:.3g}",
        "BATCHES": ", ".join(map(str, batch_sizes_around(config.batch_size))),
        "RACE": str(max(100, facts.iter_num // 3)),
        "WIDER": str(2 * config.n_embd),
        "DEEPER": str(config.n_layer + max(1, config.n_layer // 2)),
    }
    return re.sub("|".join(values), lambda match: values[match.group()], _template("branch.yaml"))
