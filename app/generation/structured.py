"""Answers of a given shape: a JSON Schema, or a grammar of the caller's own, as what the engine enforces; and the matcher
that enforces it, here and on what a server sent.

What llguidance cannot enforce is refused, never ignored. Its reasons quote what they complain about, so they are told in
words of ours.
"""

import functools
import json
import re
from collections.abc import Sequence
from typing import Any

import llguidance
from llguidance import LLMatcher
from outlines.types import CFG

from app.errors import InvalidInput

_LIMITS = llguidance.LLParserLimits(precompute_large_lexemes=False, verbose_errors=False)
"""Every grammar is used once: running its expressions over a whole large vocabulary beforehand costs more than it saves.
Verbose errors quote the grammar, and so the note."""

# One way to write a value: free white space lets a model write nothing else for ever.
_COMPACT = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}
_MAX_DEPTH = 64

# https://json-schema.org/draft/2020-12: names that are the standard's and not the sender's.
_KEYWORDS = frozenset(
    """additionalItems allOf anyOf const contains contentEncoding contentMediaType contentSchema dependencies
    dependentRequired dependentSchemas else enum exclusiveMaximum exclusiveMinimum format if items maxContains maxItems
    maxLength maxProperties maximum minContains minItems minLength minProperties minimum multipleOf not oneOf pattern
    patternProperties prefixItems properties propertyNames required then type unevaluatedItems unevaluatedProperties
    uniqueItems $anchor $dynamicAnchor $dynamicRef $id $ref $vocabulary""".split()
)
_REASONS = (
    ("Unsatisfiable schema", "no value can satisfy the JSON Schema"),
    ("regex parse error", "a pattern of the JSON Schema cannot be read, or has look-around or back-references"),
    ("Unknown format", "a format of the JSON Schema is unknown"),
    ("Invalid type", "a type of the JSON Schema is unknown"),
    ("Resource ", "a $ref of the JSON Schema points outside it"),
)


def json_schema_grammar(schema: dict[str, Any]) -> str:
    """The serialized grammar of the values that `schema` allows, written without white space, keys in its order.

    An object that lists `properties` and says nothing of others has no others, unless the schema joins objects (allOf,
    or a $ref, anyOf or oneOf beside properties), where that would forbid the other part.
    Raises: InvalidInput for a schema that cannot be enforced.
    """
    if _uses(schema, 0):
        raise InvalidInput("x-guidance in a JSON Schema is not supported")
    if not _joins(schema):
        schema = _closed(schema)
    try:
        grammar = str(LLMatcher.grammar_from_json_schema(schema, overrides=_COMPACT))
        reason = LLMatcher.validate_grammar(grammar, byte_tokenizer())
    except (ValueError, TypeError):
        raise InvalidInput("the JSON Schema cannot be read") from None
    if reason:
        raise InvalidInput(_told(reason))
    return grammar


def lark_grammar(source: str) -> str:
    """`source` in llguidance's Lark dialect, serialized. Whether a model can follow it is checked when it is used."""
    return str(llguidance.grammar_from("lark", source))


def lark_source(output_type: Any) -> str:
    """The Lark source that Outlines' only output type here holds. Raises TypeError for any other."""
    if not isinstance(output_type, CFG):
        raise TypeError("output_type must be an outlines.types.CFG")
    return str(output_type.definition)


def matcher(tokenizer: Any, grammar: str) -> LLMatcher:
    """A matcher of `grammar` (serialized, or Lark source) at its beginning.

    Raises: InvalidInput for a grammar that llguidance cannot enforce.
    """
    made = LLMatcher(tokenizer, grammar, limits=_LIMITS)
    if made.is_error():
        raise InvalidInput("llguidance refuses the grammar")
    return made


def first_refused(source: str, rows: Sequence[str]) -> int | None:
    """The first of `rows` that may not be written where it stands under the Lark `source`, one behind the last where they may
    not end; None: all is well. Raises InvalidInput for a grammar that llguidance cannot enforce."""
    state = matcher(byte_tokenizer(), lark_grammar(source))
    for number, row in enumerate(rows):
        data = list(row.encode())
        if state.try_consume_tokens(data) < len(data):
            return number
    return None if state.is_accepting() else len(rows)


@functools.cache
def byte_tokenizer() -> Any:
    """Enough to check a grammar or a text: grammars speak of bytes, whatever tokens a model writes them with."""
    return llguidance.LLTokenizer("byte")


def _told(reason: str) -> str:
    unimplemented = re.match(r"Unimplemented keys: (\[.*\])", reason)
    if unimplemented:
        known = sorted(set(json.loads(unimplemented[1])) & _KEYWORDS)
        if known:
            return f"the JSON Schema uses {', '.join(known)}, which cannot be enforced"
    return next((told for start, told in _REASONS if reason.startswith(start)), "the JSON Schema cannot be enforced")


def _parts(schema: dict[str, Any]) -> list[Any]:
    """The schemas right below `schema`; what stands in const, enum, default or examples is no schema."""
    parts: list[Any] = []
    for key in ("properties", "patternProperties", "$defs", "definitions"):
        if isinstance(schema.get(key), dict):
            parts += schema[key].values()
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        if isinstance(schema.get(key), list):
            parts += schema[key]
    return [*parts, schema.get("items"), schema.get("additionalProperties")]


def _uses(schema: Any, depth: int) -> bool:
    if depth > _MAX_DEPTH:
        raise InvalidInput(f"the JSON Schema is nested deeper than {_MAX_DEPTH} levels")
    if not isinstance(schema, dict):
        return False
    return "x-guidance" in schema or any(_uses(part, depth + 1) for part in _parts(schema))


def _joins(schema: Any) -> bool:
    if not isinstance(schema, dict):
        return False
    beside = "properties" in schema and not schema.keys().isdisjoint(("$ref", "anyOf", "oneOf"))
    return "allOf" in schema or beside or any(_joins(part) for part in _parts(schema))


def _closed(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    closed = dict(schema)
    for key in ("properties", "patternProperties", "$defs", "definitions"):
        if isinstance(schema.get(key), dict):
            closed[key] = {name: _closed(part) for name, part in schema[key].items()}
    for key in ("anyOf", "oneOf", "prefixItems"):
        if isinstance(schema.get(key), list):
            closed[key] = [_closed(part) for part in schema[key]]
    for key in ("items", "additionalProperties"):
        if key in schema:
            closed[key] = _closed(schema[key])
    if "properties" in schema and schema.keys().isdisjoint(("additionalProperties", "patternProperties")):
        closed["additionalProperties"] = False
    return closed
