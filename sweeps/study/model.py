"""The base of a study's sections, and the numbers and messages that all of them share."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema
from pydantic_core import PydanticCustomError

Number = int | float


def mistake(text: str, *path: str | int) -> PydanticCustomError:
    """A mistake at `path` below the validated object, for a validator to raise."""
    return PydanticCustomError("mistake", "{text}", {"text": text, "path": path})


def as_yaml(value: object) -> str:
    """A value as a person writes it in YAML."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        return f"{value:.12g}"
    return str(value)


class Model(BaseModel):
    """Frozen; unknown keys, numbers as text and non-finite numbers are errors; docstrings are the schema's words."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise mistake(f"{value!r} is not a number" + number_remedy(value))
    if not math.isfinite(value):
        raise mistake(f"{value} is not a finite number")
    return value


def number_remedy(value: Any) -> str:
    """What to write instead of text that looks like a number."""
    if isinstance(value, str):
        try:
            number = float(value.replace("_", "").replace(",", ""))
        except ValueError:
            return ""
        if math.isfinite(number):
            return f"; write {as_yaml(int(number) if number.is_integer() and abs(number) < 2**53 else number)}"
    return ""


AnyNumber = Annotated[int | float, BeforeValidator(_number), WithJsonSchema({"type": "number"})]
