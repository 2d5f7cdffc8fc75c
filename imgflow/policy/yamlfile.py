"""Reading YAML that a person wrote, defensively, and explaining what is wrong with a document."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

MAX_BYTES = 1_000_000
"""A policy or manifest that is larger is a mistake."""

_MAX_SHOWN = 80
_MAX_PROBLEMS = 10

# Pydantic's words where they speak of Python, in those of a person who writes YAML or JSON.
_PLAIN_WORDS = {
    "dict_type": "must be a mapping of fields",
    "model_type": "must be a mapping of fields",
    "model_attributes_type": "must be a mapping of fields",
    "tuple_type": "Input should be a valid list",
    "missing": "is required",
}


class _Loader(yaml.SafeLoader):
    """Safe loader for JSON's values, which refuses what hides mistakes or explodes.

    Unquoted words are text unless JSON knows them (true, false, null, numbers): dates, yes, no,
    on, off, 12:30 and << are text too. Aliases, tags and keys that stand twice are refused.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _error("aliases (*name) are not allowed", event)
        if getattr(event, "tag", None) is not None:
            raise _error("tags (!name) are not allowed", event)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _error("a field's name must be text", key_node)
            if key_node.value in seen:
                raise _error(f"the field {shortened(key_node.value)} stands twice", key_node)
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("null", r"(?:~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)\Z", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+][0-9]+)?\Z",
        list("-+0123456789."),
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


def load_yaml(text: bytes) -> Any:
    """The YAML document, of JSON's values. Raises ValueError that says what is wrong and where."""
    require_small(text)
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
        require_unicode(document)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise ValueError(
            f"it is not valid YAML: {error.problem or error.context}{where}"
        ) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"it is not valid YAML: {' '.join(str(error).split())}") from error
    return document


def require_small(text: bytes) -> None:
    """Raises ValueError for a document of more than MAX_BYTES."""
    if len(text) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES} bytes")


def require_unicode(document: Any) -> None:
    """Raises ValueError for half a surrogate pair in any text: no record could hold it."""
    json.dumps(document, ensure_ascii=False).encode()


def explain(error: ValidationError, model: type[BaseModel], yaml_text: bytes | None = None) -> str:
    """What is wrong with a document, field by field, with what is allowed.

    yaml_text: the document; if given, lines are named.
    """
    problems = error.errors(include_url=False)
    told = [_explain_one(dict(each), model, yaml_text) for each in problems[:_MAX_PROBLEMS]]
    if len(problems) > _MAX_PROBLEMS:
        told.append(f"and {len(problems) - _MAX_PROBLEMS} more")
    return "; ".join(told)


def _explain_one(
    problem: dict[str, Any], model: type[BaseModel], yaml_text: bytes | None = None
) -> str:
    path, types = _walk(problem["loc"], model)
    given = problem["input"]
    message = _PLAIN_WORDS.get(problem["type"], problem["msg"])
    if problem["type"] == "value_error":
        message = str(problem["ctx"]["error"])
    elif problem["type"] == "extra_forbidden":
        message, given = "there is no such field" + _near(str(path[-1]), types), None
    elif problem["type"].startswith("union_tag_"):
        field = problem["ctx"]["discriminator"].strip("'")
        path.append(field)
        allowed = [repr(tag) for each in types for tag in _tags(each)]
        message, given = f"Input should be one of {', '.join(allowed)}", given.get(field)
    shown = (
        "" if given is None or isinstance(given, dict | list) else f" (given: {shortened(given)})"
    )
    line = _line(yaml_text, path) if yaml_text is not None else None
    where = field_path(path) + (f" (line {line})" if line else "")
    return f"{where}: {message}{shown}" if where else f"{message}{shown}"


def shortened(value: object) -> str:
    """The value as it is written in Python, its middle left out where it is long."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    half = _MAX_SHOWN // 2
    return text if len(text) <= _MAX_SHOWN else f"{text[: half - 2]}...{text[1 - half :]}"


def field_path(path: Sequence[int | str]) -> str:
    """steps[1].scale, from the names and indices that lead to a field; empty for the document."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            plain = part.isprintable() and len(part) <= _MAX_SHOWN
            text += f".{part if plain else shortened(part)}"
    return text.removeprefix(".")


def _walk(
    location: Sequence[int | str], model: type[BaseModel]
) -> tuple[list[int | str], list[Any]]:
    """The path in the document of a validation error's location, and the types allowed there.

    A location also names the branches of unions that Pydantic tried, which no document contains.
    For an unknown field the types are those of the mapping in which it stands.
    """
    path: list[int | str] = []
    types: list[Any] = [model]
    for part in location:
        models = [each for each in types if _is_model(each)]
        if part == "[key]":  # of the name before it
            continue
        if isinstance(part, int):
            path.append(part)
            types = [inner for each in types for item in get_args(each) for inner in _types(item)]
        elif len(models) > 1:
            types = [each for each in models if part in _tags(each)]
        elif models:
            path.append(part)
            if part in models[0].model_fields:
                types = _types(models[0].model_fields[part].annotation)
        elif any(get_origin(each) is dict for each in types):
            path.append(part)
            held = [get_args(each)[1] for each in types if get_origin(each) is dict]
            types = [inner for each in held for inner in _types(each)]
    return path, types


def _types(annotation: Any) -> list[Any]:
    """The types that an annotation allows: what Annotated and unions hold."""
    if get_origin(annotation) is Annotated:
        return _types(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [inner for each in get_args(annotation) for inner in _types(each)]
    return [annotation]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _tags(model: Any) -> tuple[Any, ...]:
    """What tells a model from others of its union: the values allowed for its first field."""
    return get_args(next(iter(model.model_fields.values())).annotation)


def _near(name: str, types: Sequence[Any]) -> str:
    known = [field for each in types if _is_model(each) for field in each.model_fields]
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; there are {', '.join(known)}"


def _line(yaml_text: bytes, path: Sequence[int | str]) -> int | None:
    """Line of the deepest part of a path that stands in the text, from 1."""
    node = yaml.compose(yaml_text, Loader=_Loader)
    line = None
    for part in path:
        if isinstance(node, yaml.SequenceNode):
            inner = [(each, each) for each in node.value][int(part) :]
        elif isinstance(node, yaml.MappingNode):
            inner = [pair for pair in node.value if pair[0].value == str(part)]
        else:
            break
        if not inner:
            break
        line, node = inner[0][0].start_mark.line + 1, inner[0][1]
    return line


def _error(problem: str, at: Any) -> yaml.MarkedYAMLError:
    """at: the event or node."""
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark)


def read_limited(path: Path) -> bytes:
    """The file's bytes, at most one more than is allowed."""
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)
