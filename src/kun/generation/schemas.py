"""JSON schemas as far as the parser can hold a text to them: what it cannot is left out, and named."""

import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import cast

from llguidance import LLMatcher

_Schema = dict[str, object]

_NAMED = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")
"""Keywords whose values have a schema for each name."""
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
_SINGLE = (
    "items",
    "additionalProperties",
    "additionalItems",
    "unevaluatedProperties",
    "contains",
    "not",
    "if",
    "then",
    "else",
)
_MOST_TRIES = 5000
_MOST_SECONDS = 2.0
"""Schemas that are tried, and the time that they take, before all that is left of one is given up."""
UNSUPPORTED = frozenset({
    "uniqueItems", "not", "if", "then", "else", "propertyNames", "contains", "minContains", "maxContains", "oneOf",
    "dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties", "unevaluatedItems", "pattern",
    "patternProperties", "format", "multipleOf", "$dynamicRef", "$dynamicAnchor",
})  # fmt: skip
"""Sound keywords that the parser may not know, or may not know with such a value."""


def fault(schema: Mapping[str, object]) -> str:
    """The reason why a text cannot be held to the schema; empty where it can."""
    return str(LLMatcher.validate_grammar(LLMatcher.grammar_from_json_schema(json.dumps(schema))) or "")


def weakened(schema: Mapping[str, object]) -> tuple[_Schema, list[str]]:
    """A schema that texts can be held to, with all of the given one that allows it, and the keywords left out."""
    if not fault(schema):
        return dict(schema), []
    try:
        weakening = _Weakening(schema)
        weakening.run(())
    except RecursionError:
        return {}, ["anything (it is nested too deeply)"]
    return weakening.root, list(dict.fromkeys(weakening.dropped))


def nested(schema: Mapping[str, object], place: str) -> _Schema:
    """The schema as it reads at `place`, a JSON pointer, in another: its references begin there.

    Raises `RecursionError` for one that is nested too deeply.
    """
    moved: _Schema = json.loads(json.dumps(dict(schema)))
    _move(moved, place, place, "")
    return moved


def _move(node: _Schema, place: str, base: str, own: str) -> None:
    """Let the references in the schema at `place` begin at `base`, the next schema around them with an address."""
    for name in ("$schema", "$id", "id"):
        if isinstance(address := node.get(name), str):
            del node[name]
            base, own = (base, own) if name == "$schema" else (place, address.rstrip("#"))
    if isinstance(target := node.get("$ref"), str):
        local = target.removeprefix(own)
        node["$ref"] = f"#{base}{local[1:]}" if local == "#" or local.startswith("#/") else target
    for path in list(_below(node)):
        value: object = node
        for part in path:
            value = value[int(part)] if isinstance(value, list) else cast(_Schema, value)[part]
        if isinstance(value, dict):
            _move(value, place + _written(path), base, own)


class _Weakening:
    """One schema, which is tried from its smallest parts on."""

    def __init__(self, schema: Mapping[str, object]) -> None:
        self.root = nested(schema, "")
        self.dropped: list[str] = []
        self._begun: set[tuple[str, ...]] = set()
        self._tries, self._end = 0, time.monotonic() + _MOST_SECONDS

    def run(self, path: tuple[str, ...]) -> None:
        """Leave out of the part at `path` what cannot be followed."""
        if path in self._begun:
            return
        self._begun.add(path)
        node = self._at(path)
        if not isinstance(node, dict) or self._sound(path):
            return
        if (target := _pointer(node.get("$ref"))) is not None:
            self.run(target)
        for below in _below(node):
            self.run((*path, *below))
        if not self._sound(path):
            self._rebuild(path, node)

    def _rebuild(self, path: tuple[str, ...], node: _Schema) -> None:
        """Take its keywords one after the other, without those that make it unsound."""
        given = sorted(node.items(), key=lambda item: item[0] not in ("$defs", "definitions", "type"))
        node.clear()
        for name, value in given:
            node[name] = value
            if name in ("$defs", "definitions") or self._sound(path):
                continue
            del node[name]
            self.dropped.append(name)
            if name == "oneOf" and "anyOf" not in node:
                node["anyOf"] = value
                if not self._sound(path):
                    del node["anyOf"]

    def _at(self, path: tuple[str, ...]) -> object:
        node: object = self.root
        for part in path:
            if isinstance(node, dict) and part in node:
                node = node[part]
            elif isinstance(node, list) and part.isdecimal() and int(part) < len(node):
                node = node[int(part)]
            else:
                return None
        return node

    def _sound(self, path: tuple[str, ...]) -> bool:
        """True if the part at `path` can be followed; references lead to where they lead from the whole."""
        self._tries += 1
        if self._tries > _MOST_TRIES or time.monotonic() > self._end:
            return False
        part = self._at(path)
        if isinstance(part, dict) and '"$ref"' not in json.dumps(part):
            return not fault(part)
        place = "/$defs/whole"
        return not fault({"$ref": f"#{place}{_written(path)}", "$defs": {"whole": nested(self.root, place)}})


def _written(path: tuple[str, ...]) -> str:
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path)


def _pointer(reference: object) -> tuple[str, ...] | None:
    if not isinstance(reference, str) or not re.fullmatch("#(/.*)?", reference):
        return None
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in reference[1:].split("/")[1:])


def _below(node: _Schema) -> Iterator[tuple[str, ...]]:
    """Where the schemas within one are."""
    for name in _NAMED:
        if isinstance(value := node.get(name), dict):
            yield from ((name, key) for key in value)
    for name in _LISTED:
        if isinstance(value := node.get(name), list):
            yield from ((name, str(place)) for place in range(len(value)))
    for name in _SINGLE:
        if isinstance(node.get(name), dict):
            yield (name,)
