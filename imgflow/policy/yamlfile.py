"""Reading YAML that a person wrote, defensively, and explaining what is wrong with it."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

_MAX_BYTES = 1_000_000


class _Loader(yaml.SafeLoader):
    """Safe loader that refuses what hides mistakes or explodes: duplicate keys and aliases."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.YAMLError(f"aliases (*{event.anchor}) are not allowed, {event.start_mark}")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                line = key_node.start_mark.line + 1
                raise yaml.YAMLError(f"the key '{key_node.value}' stands twice, line {line}")
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def load_yaml(text: bytes) -> Any:
    """The YAML document. Raises ValueError that says what is wrong and where."""
    if len(text) > _MAX_BYTES:
        raise ValueError(f"it has {len(text)} bytes, more than {_MAX_BYTES}")
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ValueError(f"it is not valid YAML: {error}") from error


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """All that is wrong with a document, field by field, with what is allowed."""
    return "; ".join(_explain_one(dict(each), model) for each in error.errors())


def _explain_one(problem: dict[str, Any], model: type[BaseModel]) -> str:
    where = field_path(problem["loc"])
    if problem["type"] == "extra_forbidden":
        name = str(problem["loc"][-1])
        known = _field_names(model)
        near = difflib.get_close_matches(name, known, n=1)
        meant = f"; did you mean '{near[0]}'?" if near else ""
        return f"{where}: there is no such field{meant}"
    given = problem.get("input")
    shown = "" if isinstance(given, dict | list) or given is None else f" (given: {given!r})"
    return f"{where}: {problem['msg']}{shown}"


def field_path(location: tuple[int | str, ...]) -> str:
    """steps[1].scale, from the parts of a validation error's location."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.lstrip(".") or "the document"


def _field_names(model: type[BaseModel]) -> set[str]:
    names: set[str] = set()
    waiting: list[Any] = [model]
    seen: set[Any] = set()
    while waiting:
        each = waiting.pop()
        if each in seen:
            continue
        seen.add(each)
        if isinstance(each, type) and issubclass(each, BaseModel):
            names |= set(each.model_fields)
            waiting += [info.annotation for info in each.model_fields.values()]
        else:
            waiting += getattr(each, "__args__", ())
    return names


def read_limited(path: Path) -> bytes:
    """The file's bytes, at most one more than is allowed."""
    with path.open("rb") as file:
        return file.read(_MAX_BYTES + 1)
