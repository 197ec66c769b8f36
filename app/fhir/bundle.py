"""Resources to a Bundle and to JSON text, digits kept."""

import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from app.errors import InvalidInput
from app.fhir import codes
from app.fhir.elements import Json, identifier_of, instant
from schemas.note import ChartNote

_FIRST = ("resourceType", "id", "meta")
_ENTRY_ORDER = ("Patient", "DocumentReference")

# The standard library's json makes 1.10 a float; fhir.resources writes it back as 1.1.
_encoder = msgspec.json.Encoder(decimal_format="number")
_decoder = msgspec.json.Decoder(float_hook=Decimal)


def collection(note: ChartNote, resources: Sequence[Json], timestamp: datetime) -> Json:
    """Bundle of type collection: Patient, DocumentReference, then the others in their order.

    Every `Type/id` reference to a resource of the Bundle becomes its `urn:uuid:` fullUrl. A Provenance keeps those of
    its targets that are in the Bundle (a resource with an error is held back). The arguments stay as they are.
    Raises InvalidInput for a timestamp without zone.
    """
    urls = {f"{r['resourceType']}/{r['id']}": f"urn:uuid:{r['id']}" for r in resources}
    ranked = sorted(filter(None, (_present(r, urls) for r in resources)), key=lambda r: _rank(r["resourceType"]))
    members = sorted(urls.values())
    moment = instant(timestamp)
    return {
        "resourceType": "Bundle",
        "id": identifier_of("Bundle", note.patient.id, note.id, *members),
        "meta": {"lastUpdated": moment},
        "identifier": {"system": codes.BUNDLE_ID, "value": note.id},
        "type": "collection",
        "timestamp": moment,
        "entry": [{"fullUrl": f"urn:uuid:{r['id']}", "resource": _linked(r, urls)} for r in ranked],
    }


def _present(resource: Json, urls: dict[str, str]) -> Json | None:
    if resource["resourceType"] != "Provenance":
        return resource
    targets = [target for target in resource["target"] if target["reference"] in urls]
    return {**resource, "target": targets} if targets else None


def _rank(resource_type: str) -> int:
    return _ENTRY_ORDER.index(resource_type) if resource_type in _ENTRY_ORDER else len(_ENTRY_ORDER)


def _linked(node: Any, urls: dict[str, str]) -> Any:
    if isinstance(node, dict):
        return {
            key: urls.get(value, value) if key == "reference" and isinstance(value, str) else _linked(value, urls)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_linked(value, urls) for value in node]
    return node


def dumps(resource: Json) -> str:
    """JSON text: resourceType, id, meta first, then by name with each `_x` after its `x`.

    The same resource gives the same text whatever the order of its keys was (jsonb forgets it).
    Raises InvalidInput for a float, whose digits are already lost, and for a resource nested too deep.
    """
    try:
        return _encoder.encode(_ordered(resource)).decode()
    except RecursionError:
        raise InvalidInput("a resource is nested too deep") from None


def _ordered(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _ordered(node[key]) for key in sorted(node, key=_key_order)}
    if isinstance(node, list):
        return [_ordered(value) for value in node]
    if isinstance(node, float):
        raise InvalidInput("a resource holds a float; numbers must be Decimal or int")
    return node


def _key_order(key: str) -> tuple[int, str, bool]:
    return _FIRST.index(key) if key in _FIRST else len(_FIRST), key.removeprefix("_"), key.startswith("_")


def loads(text: str | bytes) -> Json:
    """A resource from JSON; numbers with a point or an exponent become Decimal.

    Raises InvalidInput when it is not JSON or not an object; the message holds a position, never the text.
    """
    try:
        value = _decoder.decode(text)
    except msgspec.DecodeError as error:
        position = re.search(r"byte \d+", str(error))
        raise InvalidInput(f"not JSON{f' at {position[0]}' if position else ''}") from None
    except RecursionError:
        raise InvalidInput("JSON is nested too deep") from None
    if not isinstance(value, dict):
        raise InvalidInput("not a JSON object")
    return value
