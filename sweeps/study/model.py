"""Base class of a study's sections, with the number types and messages that they share."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema
from pydantic_core import PydanticCustomError

Number = int | float


def mistake(text: str, *path: str | int) -> PydanticCustomError:
    """Return the error for a validator to raise; `path` is relative to the validated object."""
    return PydanticCustomError("mistake", "{text}", {"text": text, "path": path})


def as_yaml(value: object) -> str:
    """Format a value as in YAML: true, null, 0.3."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        return f"{value:.12g}"
    return str(value)


class Model(BaseModel):
    """A frozen section, whose docstrings describe its keys. Unknown keys and numbers as text are errors."""

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
    """Return "; write N" for text that looks like the number N, else an empty string."""
    if isinstance(value, str):
        try:
            number = float(value.replace("_", "").replace(",", ""))
        except ValueError:
            return ""
        if math.isfinite(number):
            return f"; write {as_yaml(int(number) if number.is_integer() and abs(number) < 2**53 else number)}"
    return ""


AnyNumber = Annotated[int | float, BeforeValidator(_number), WithJsonSchema({"type": "number"})]
