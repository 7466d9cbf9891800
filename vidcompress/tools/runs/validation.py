"""Validation of files from outside: types of fields, models of files, and errors that name file, field and value."""

from __future__ import annotations

import math
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, PlainValidator, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from vidcompress.errors import ArgumentError, nearest, shown

Model = TypeVar("Model", bound="FileModel")


def is_number(value: object) -> bool:
    """Whether a JSON value is a finite number."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max  # isfinite fails on larger whole numbers


def expected(what: str) -> PydanticCustomError:
    """Make the error of a field for a validator; `what` names the expected value."""
    return PydanticCustomError("expected", what)


def refused(why: str) -> PydanticCustomError:
    """Make the error of a whole object for a validator."""
    return PydanticCustomError("refused", why)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or len(value) > 2000 or not value.isprintable():
        raise expected("text of 1 to 2000 printable characters")
    return value


def _number(low: float, high: float, value: object) -> float:
    if not is_number(value) or not low <= value <= high:  # type: ignore[operator]
        raise expected("a finite number" if low == -math.inf else f"a finite number from {low:g} to {high:g}")
    return float(value)  # type: ignore[arg-type]


def _whole(value: object) -> int:
    number = _number(0, math.inf, value)
    if number != int(number):
        raise expected("a whole number")
    return int(number)


Text = Annotated[str, PlainValidator(_text)]
"""Printable text of up to 2,000 characters, which fits in a table."""
Number = Annotated[float, PlainValidator(partial(_number, -math.inf, math.inf))]
"""A finite number."""
Amount = Annotated[float, PlainValidator(partial(_number, 0, math.inf))]
"""A finite number of at least 0."""
Share = Annotated[float, PlainValidator(partial(_number, 0, 1))]
"""A number from 0 to 1."""
Whole = Annotated[int, PlainValidator(_whole)]
"""A whole number of at least 0."""


class FileModel(BaseModel):
    """Object of a parsed file; unknown keys are refused with the nearest known one, or ignored by `extra="ignore"`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _only_known(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            raise expected("an object")
        known = [field.alias or name for name, field in cls.model_fields.items()]
        strange = next((name for name in content if name not in known), None)
        if strange is not None and cls.model_config["extra"] == "forbid":
            raise refused(f"{shown(strange)} is no key here; {nearest(strange, known)}")
        return content


def read_fields(model: type[Model], path: Path, content: Any) -> Model:
    """Validate the content of a file.

    Raises:
        ArgumentError: a field is missing or wrong; the message names the file, the field and the value received.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ArgumentError(f"{path}: {_message(error.errors(include_url=False)[0])}") from error


def _message(error: ErrorDetails) -> str:
    """Return the message of an error: the field and what is wrong with it."""
    field = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"{field} is missing; add it"
    if error["type"] == "refused":
        return f"{field}: {error['msg']}" if field else error["msg"]
    what = (
        error["msg"].removeprefix("Input should be ").replace("dictionary", "object").replace("tuple", "list")
    )
    return f"{field or 'the file'} must be {what}, got {shown(error['input'])}"


def no_constant(name: str) -> float:
    """Refuse NaN and Infinity, which Python reads and JSON does not have."""
    raise ValueError(f"{name} is no JSON number")
