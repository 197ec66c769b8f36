"""Entries of a transaction Bundle, and the links between them."""

from typing import Any

import pytest

from app.errors import InvalidInput
from app.fhir.transaction import ORDER, conditional, entry_of, linked, placeholders, references, unresolved

URN = "urn:uuid:6f1c2a34-0b1d-4a5e-9c3f-2d7e8a9b0c1d"


def written(method: str, url: str, **more: Any) -> dict[str, Any]:
    request = {"method": method, "url": url} | {k: v for k, v in more.items() if k.startswith("if")}
    return {"request": request} | {k: v for k, v in more.items() if not k.startswith("if")}


PATIENT = {"resourceType": "Patient", "active": True}


@pytest.mark.parametrize(("method", "url", "found"), [
    ("GET", "Patient/1", ("Patient", "1", None, False, None)),
    ("GET", "/Patient/1/", ("Patient", "1", None, False, None)),
    ("GET", "Patient/1/_history", ("Patient", "1", None, True, None)),
    ("GET", "Patient/1/_history/3", ("Patient", "1", None, True, 3)),
    ("GET", "Patient?identifier=a|b&_count=1", ("Patient", None, "identifier=a|b&_count=1", False, None)),
    ("GET", "Patient", ("Patient", None, None, False, None)),
    ("DELETE", "Patient/1", ("Patient", "1", None, False, None)),
    ("DELETE", "Patient?identifier=x", ("Patient", None, "identifier=x", False, None)),
])  # fmt: skip
def test_an_entry_says_what_it_asks(method: str, url: str, found: tuple[Any, ...]) -> None:
    entry = entry_of(0, written(method, url))
    assert (entry.type, entry.id, entry.criteria, entry.history, entry.version) == found


@pytest.mark.parametrize("bad", [
    {}, None, [], {"request": []}, written("TRACE", "Patient/1"), written("GET", ""), written("GET", "../x"),
    written("GET", "http://elsewhere/fhir/Patient/1"), written("GET", "Patient/1/_history/0"), written("GET", "Patient/a/b"),
    written("POST", "Patient"), written("POST", "Patient/1", resource=PATIENT),
    written("POST", "Patient?identifier=1", resource=PATIENT), written("POST", "Observation", resource=PATIENT),
    written("PUT", "Patient", resource=PATIENT), written("PUT", "Patient?", resource=PATIENT),
    written("PUT", "Patient/1?identifier=1", resource=PATIENT), written("DELETE", "Patient"), written("DELETE", "Patient?"),
    written("PATCH", "Patient/1", resource=PATIENT), written("PUT", "Patient/1", resource=[]),
    written("GET", "Patient/1", ifNoneMatch=1), written("POST", "Patient", resource=PATIENT, fullUrl=1),
])  # fmt: skip
def test_an_entry_that_asks_nothing_is_refused(bad: Any) -> None:
    with pytest.raises(InvalidInput):
        entry_of(0, bad)


def test_the_order_is_delete_post_put_get() -> None:
    assert sorted(ORDER, key=lambda method: ORDER[method]) == ["DELETE", "POST", "PUT", "PATCH", "GET", "HEAD"]


def test_links_are_rewritten_where_they_are_links() -> None:
    resource = {
        "resourceType": "Observation",
        "subject": {"reference": URN},
        "performer": [{"reference": f"{URN}#part"}, {"reference": "urn:uuid:other"}],
        "extension": [{"url": "http://x", "valueUri": URN}, {"url": "http://y", "valueCanonical": URN}],
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": URN}],
        "note": [{"text": URN}],
        "text": {"status": "generated", "div": f'<div><a href="{URN}">p</a><img src=\'{URN}\'/> {URN}</div>'},
        "meta": {"profile": [URN], "source": URN},
    }
    found = linked(resource, {URN: "Patient/7"})
    assert found["subject"] == {"reference": "Patient/7"}
    assert found["performer"] == [{"reference": "Patient/7#part"}, {"reference": "urn:uuid:other"}]
    assert found["extension"] == [{"url": "http://x", "valueUri": "Patient/7"}, {"url": "http://y", "valueCanonical": URN}]
    assert found["identifier"][0]["value"] == URN and found["note"][0]["text"] == URN
    assert found["text"]["div"] == f'<div><a href="Patient/7">p</a><img src=\'Patient/7\'/> {URN}</div>'
    assert found["meta"] == {"profile": [URN], "source": "Patient/7"}
    assert resource["subject"] == {"reference": URN}  # the argument stays
    assert unresolved(found) and not unresolved(linked(found, {"urn:uuid:other": "Patient/8"}))


def test_a_full_url_of_another_server_stands_for_what_is_created() -> None:
    entry = entry_of(0, written("POST", "Patient", resource=PATIENT, fullUrl="http://elsewhere/fhir/Patient/1"))
    urls = placeholders([entry], {0: "Patient/new"})
    assert urls == {"http://elsewhere/fhir/Patient/1": "Patient/new", "Patient/1": "Patient/new"}
    kept = entry_of(0, written("PUT", "Patient/1", resource=PATIENT | {"id": "1"}, fullUrl="http://here/fhir/Patient/1"))
    assert placeholders([kept], {0: "Patient/1"}) == {"http://here/fhir/Patient/1": "Patient/1"}


def test_references_and_conditions_are_found() -> None:
    resource = {"a": [{"reference": "Patient?identifier=x|1"}], "b": {"reference": "Patient/1"}, "reference": {"c": 1}}
    assert list(references(resource)) == ["Patient?identifier=x|1", "Patient/1"]
    assert conditional("Patient?identifier=x|1") == ("Patient", "identifier=x|1")
    assert conditional("Patient/1") is None and conditional("Patient?") is None
