"""Schemas of other programs' tools: what no text can be held to is left out, the rest holds."""

import json
import logging
import time
from typing import Any

import pytest
from tiny import language_model

from kun.generation.options import SamplingOptions
from kun.generation.schemas import fault, nested, weakened

OBJECT: Any = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}, "required": ["a"]}


@pytest.mark.parametrize(
    ("odd", "dropped", "left"),
    [
        ({"type": "array", "uniqueItems": True, "maxItems": 2}, ["uniqueItems"], {"type": "array", "maxItems": 2}),
        ({"type": "string", "not": {"const": "a"}}, ["not"], {"type": "string"}),
        (OBJECT | {"if": {"required": ["a"]}, "then": {"required": ["b"]}}, ["if", "then"], OBJECT),
        (OBJECT | {"propertyNames": {"pattern": "^a"}}, ["propertyNames"], OBJECT),
        (OBJECT | {"dependentRequired": {"a": ["b"]}}, ["dependentRequired"], OBJECT),
        ({"type": "string", "pattern": "^(?=.*a)b"}, ["pattern"], {"type": "string"}),
        ({"type": "string", "format": "uri-template", "maxLength": 9}, ["format"], {"type": "string", "maxLength": 9}),
        ({"oneOf": [OBJECT, {"type": "object"}]}, ["oneOf"], {"anyOf": [OBJECT, {"type": "object"}]}),
        ({"$ref": "#/$defs/absent"}, ["$ref"], {}),
        ({"$ref": "https://example.org/schema.json"}, ["$ref"], {}),
    ],
)  # fmt: skip
def test_an_odd_keyword_is_left_out_and_named_wherever_it_is(odd: Any, dropped: list[str], left: Any) -> None:
    assert weakened(odd) == (left, dropped)
    around = {"type": "object", "properties": {"list": {"type": "array", "items": odd}, "b": OBJECT}}
    inside, named = weakened(around)
    assert named == dropped
    assert inside["properties"] == {"list": {"type": "array", "items": left}, "b": OBJECT}
    assert not fault(inside)


def test_a_sound_schema_stays_as_it_is() -> None:
    recursive = {
        "$ref": "#/$defs/N",
        "$defs": {"N": {"type": "object", "properties": {"n": {"$ref": "#/$defs/N"}}}},
    }
    for schema in (OBJECT, recursive, {}):
        assert weakened(schema) == (schema, [])


def test_what_a_reference_leads_to_is_weakened_there_also_in_a_circle() -> None:
    person = {"type": "object", "properties": {"tags": {"type": "array", "uniqueItems": True}}}
    person["properties"]["friend"] = {"$ref": "#/$defs/Person"}  # type: ignore[index]
    left, dropped = weakened(
        {"type": "object", "properties": {"p": {"$ref": "#/$defs/Person"}}, "$defs": {"Person": person}}
    )
    assert dropped == ["uniqueItems"]
    assert left["properties"] == {"p": {"$ref": "#/$defs/Person"}}
    assert not fault(left)


def test_references_lead_on_where_a_schema_is_part_of_another() -> None:
    named = {"type": "object", "properties": {"$ref": {"type": "string"}, "n": {"$ref": "#/definitions/N"}}}
    schema = {"$id": "https://a.example/b", "definitions": {"N": {"type": "integer"}}, **named}
    other = {"properties": {"x": nested(schema, "/properties/x")}}
    assert other["properties"]["x"]["properties"] == {  # type: ignore[index]
        "$ref": {"type": "string"}, "n": {"$ref": "#/properties/x/definitions/N"}
    }  # fmt: skip
    assert not fault(other)
    assert nested({"$ref": "https://a.example/b#/c", "$id": "https://a.example/b"}, "/d") == {"$ref": "#/d/c"}


def test_a_large_schema_of_odd_parts_is_given_up_within_seconds() -> None:
    parts = {f"p{place}": {"$ref": "#/$defs/a", "uniqueItems": True} for place in range(700)}
    begun = time.perf_counter()
    left, dropped = weakened({"type": "object", "$defs": {"a": {"not": {}}}, "properties": parts})
    assert time.perf_counter() - begun < 8
    assert not fault(left)
    assert dropped


def test_a_schema_that_is_all_wrong_or_too_deep_leaves_no_constraint() -> None:
    deep: Any = {"not": {}}
    for _ in range(400):
        deep = {"type": "object", "properties": {"a": deep}}
    assert not fault(weakened(deep)[0])
    assert weakened({"type": "foo", "properties": [], "required": "a"})[0] == {}
    unsound = {"type": "integer", "minimum": 5, "maximum": 2}
    assert weakened(unsound) == ({"type": "integer", "minimum": 5}, ["maximum"])


def _tool(name: str, parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


@pytest.mark.parametrize("among", [0, 2])
def test_an_odd_tool_is_offered_with_what_holds_and_the_log_says_so(
    among: int, caplog: pytest.LogCaptureFixture
) -> None:
    odd = {"type": "object", "required": ["to", "tags"], "properties": {"to": {"$ref": "#/$defs/To"}}}
    city = {"type": "object", "required": ["city"], "additionalProperties": False}
    odd["$defs"] = {"To": city | {"properties": {"city": {"enum": ["Oslo"]}}}}
    odd["properties"]["tags"] = {
        "type": "array",
        "uniqueItems": True,
        "maxItems": 2,
        "items": {"enum": ["a", "b"]},
    }  # type: ignore[index]
    tools = [_tool("send", odd), *(_tool(f"other{i}", OBJECT) for i in range(among))]
    named: Any = {"type": "function", "function": {"name": "send"}}
    hello = [{"role": "user", "content": "hi"}]
    options = SamplingOptions(max_tokens=200, seed=3)
    with language_model(positions=4096) as lm, caplog.at_level(logging.WARNING, "kun.generation"):
        forced = lm.submit(hello, options, tools=tools, tool_choice=named).result()[0]
        assert lm.submit(hello, SamplingOptions(max_tokens=3, seed=3), tools=tools).result()[0].token_ids
    arguments = json.loads(forced.tool_calls[0]["function"]["arguments"])
    assert arguments["to"] == {"city": "Oslo"}
    assert len(arguments["tags"]) <= 2
    assert set(arguments["tags"]) <= {"a", "b"}
    assert "The arguments of the tool send are not held to uniqueItems" in caplog.text
    assert "other" not in caplog.text
