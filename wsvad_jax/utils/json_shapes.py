"""Shapes of JSON files: what a value must be, and one sentence where it isn't.

Files come from others, so values are never coerced: "1" and true are no numbers, and
numbers are finite. Keys that a shape doesn't name are kept, unless it forbids them.
"""

import dataclasses
from collections.abc import Iterator
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import pydantic
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from wsvad_jax.utils.errors import InputError

MAX_NUMBER = 1e15  # whole numbers below it are exact as floats


class Shape(pydantic.BaseModel):
    """A JSON object; fields are its keys."""

    model_config = pydantic.ConfigDict(strict=True, frozen=True, extra="ignore")

    def fields(self) -> dict[str, Any]:
        """Returns the values by key, as arguments of a dataclass."""
        return {name: getattr(self, name) for name in type(self).model_fields}


ShapeT = TypeVar("ShapeT", bound=Shape)


def expected(words: str) -> PydanticCustomError:
    """Returns the error of a value that must be what `words` say, for validators."""
    return PydanticCustomError("expected", "{words}", {"words": words})


def _printable(text: str) -> str:
    if not text.isprintable():
        raise expected("a printable text")
    return text


# Names of files may hold half a surrogate pair, which pydantic's own str refuses.
Text = pydantic.InstanceOf[str]
PrintableText = Annotated[Text, AfterValidator(_printable)]
Number = Annotated[float, Field(gt=-MAX_NUMBER, lt=MAX_NUMBER)]
Count = Annotated[int, Field(ge=0, lt=10**15)]
PositiveCount = Annotated[int, Field(ge=1, lt=10**15)]

EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "an object",
    "float_type": "a finite number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "is_instance_of": "a text",
    "list_type": "a list",
    "model_type": "an object",
    "string_type": "a text",
    "tuple_type": "a list",
}


def dataclass_shape(cls: type) -> type[Shape]:
    """Returns the shape of the JSON object with the fields of a dataclass."""
    hints = get_type_hints(cls, include_extras=True)

    # pydantic's own dataclasses would refuse lists for tuples, and validate at each use.
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        default: Any = ... if field.default is dataclasses.MISSING else field.default
        if field.default_factory is not dataclasses.MISSING:
            default = Field(default_factory=field.default_factory)
        fields[field.name] = (hints[field.name], default)
    return pydantic.create_model(cls.__name__, __base__=Shape, **fields)


def check_shape(
    shape: type[ShapeT], value: Any, source: object, advice: str = ""
) -> ShapeT:
    """Returns `value` as an instance of `shape`.

    Args:
      shape: expected keys and types.
      value: content of a JSON file, as `files.read_json` returns it.
      source: file, or file and key, that the message begins with.
      advice: end of the message, what the user should do.

    Raises:
      InputError: a key is missing, unknown or has another type; names the first one.
    """
    try:
        return shape.model_validate(value)
    # One error is enough for one sentence.
    except pydantic.ValidationError as e:
        # An unknown key may be a misspelt one, and the cause of a missing one.
        errors = sorted(
            e.errors(include_url=False), key=lambda x: x["type"] != "extra_forbidden"
        )
        sentence = _sentence(errors[0], value, shape)
    raise InputError(f"{source}: {sentence}" + (f"; {advice}" if advice else ""))


def _sentence(error: Any, root: Any, shape: type[Shape]) -> str:
    key, found = _locate(error["loc"], root)
    kind, context = error["type"], error.get("ctx", {})

    if kind == "missing":
        return f"the key {_dotted(error['loc'])} is missing"
    if kind == "extra_forbidden":
        keys = ", ".join(_keys_at(error["loc"][:-1], shape))
        return f"unknown key {key!r}; expected one of {keys}"

    # pydantic's words are for programmers: they say "input" and name Python's types.
    words = EXPECTED.get(kind, error["msg"])
    if kind in ("greater_than", "less_than", "less_than_equal", "finite_number"):
        words = "a finite number"
    elif kind == "literal_error":
        words = context["expected"]
    elif kind == "string_pattern_mismatch":
        words = f"a text of the form {context['pattern']}"
    elif kind == "greater_than_equal":
        words = f"a whole number of at least {context['ge']}"
    elif kind in ("too_short", "too_long"):
        few = "at least" if kind == "too_short" else "at most"
        length = context["min_length" if kind == "too_short" else "max_length"]
        words = f"a list of {few} {length}"

    if not key:
        return f"expected {words}, found {found!r:.60}"
    return f"{key} must be {words}, found {found!r:.60}"


def _keys_at(location: tuple[Any, ...], shape: type[Shape]) -> list[str]:
    """Returns the keys that the object at a location may have."""
    for key in location:
        if isinstance(key, str) and key in shape.model_fields:
            shape = _shape_in(shape.model_fields[key].annotation) or shape
    return list(shape.model_fields)


def _shape_in(annotation: Any) -> type[Shape] | None:
    """Returns the first shape in a type such as list[Shape] or Shape | None."""
    if isinstance(annotation, type) and issubclass(annotation, Shape):
        return annotation
    return next(filter(None, map(_shape_in, get_args(annotation))), None)


def _locate(location: tuple[Any, ...], value: Any) -> tuple[str, Any]:
    """Returns the key, as a.b[0], and the value at a location.

    Locations also name branches of unions, which are no keys: they end the search.
    """
    keys: list[Any] = []
    for key in location:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            break
        keys.append(key)
    return _dotted(keys), value


def _dotted(keys: Any) -> str:
    return "".join(_steps(keys)).removeprefix(".")


def _steps(keys: Any) -> Iterator[str]:
    for key in keys:
        yield f"[{key}]" if isinstance(key, int) else f".{key}"
