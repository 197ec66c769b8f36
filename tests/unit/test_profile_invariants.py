"""Invariants that are evaluated natively for speed say what the library says of the same expression."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from app.fhir.profiles import invariants
from app.fhir.profiles.definitions import Constraint
from app.fhir.profiles.invariants import Invariants, Scope

Json = dict[str, Any]
ABSENT = object()


def _concept(system: str, code: str) -> Json:
    return {"coding": [{"system": system, "code": code}]}


def _combined(**choices: list[Any]) -> Iterator[Json]:
    for values in itertools.product(*choices.values()):
        yield {key: value for key, value in zip(choices, values, strict=True) if value is not ABSENT}


def _statuses(base: str, clinical: str, verification: str, **more: list[Any]) -> Iterator[Json]:
    codes = ("active", "inactive", "resolved", "entered-in-error")
    return _combined(
        clinicalStatus=[ABSENT, *(_concept(f"{base}{clinical}", code) for code in codes), _concept("http://x", "resolved")],
        verificationStatus=[
            ABSENT, _concept(f"{base}{verification}", "confirmed"), _concept(f"{base}{verification}", "entered-in-error"),
            _concept("http://x", "entered-in-error"), {"text": "x"},
        ],
        **more,
    )  # fmt: skip


def _bundles() -> Iterator[Json]:
    body = {"resourceType": "Patient", "meta": {"versionId": "1"}}
    entries = [
        [{"fullUrl": "urn:a", "resource": body}, {"fullUrl": "urn:a", "resource": {**body, "meta": {"versionId": "2"}}}],
        [{"fullUrl": "urn:a", "resource": body}, {"fullUrl": "urn:a", "resource": body}],
        [{"resource": body, "request": {"method": "GET", "url": "x"}}],
        [{"resource": body, "request": {"method": "GET", "url": "x"}, "response": {"status": "200"}}],
        [{"response": {"status": "200"}}],
        ABSENT,
    ]
    types = ["document", "batch", "transaction", "history", "batch-response", "searchset"]  # 1..1, so never absent
    for bundle in _combined(type=types, entry=entries):
        yield {"resourceType": "Bundle", **bundle}


def _cases(expression: str) -> tuple[str, list[Json]]:
    """The type that the expression stands on, and values of it."""
    hl7 = "http://terminology.hl7.org/CodeSystem/"
    if "url='length'" in expression:
        parts = [{"url": url, "valueInteger": 1} for url in ("reference", "offset", "length")]
        chosen = [list(c) for n in range(4) for c in itertools.combinations(parts, n)]
        return "Extension", [{"url": "u", **({"extension": c} if c else {})} for c in chosen]
    if "fullUrl.contains" in expression or expression.startswith("resource.exists"):
        entry = _combined(
            fullUrl=[ABSENT, "urn:a", "http://x/Patient/1/_history/2"],
            resource=[ABSENT, {"resourceType": "Patient"}],
            request=[ABSENT, {"method": "GET"}],
            response=[ABSENT, {"status": "200"}],
        )
        return "Bundle.entry", [e for e in entry if e]
    if "entry" in expression and "entered-in-error" not in expression:
        return "Bundle", list(_bundles())
    if "allergyintolerance" in expression:
        made = _statuses(f"{hl7}allergyintolerance-", "clinical", "verification")
        return "AllergyIntolerance", [{"resourceType": "AllergyIntolerance", **m} for m in made]
    made = _statuses(
        f"{hl7}condition-", "clinical", "ver-status",
        abatementDateTime=[ABSENT, "2020"], category=[ABSENT, [_concept("http://x", "problem-list-item")]],
    )  # fmt: skip
    return "Condition", [{"resourceType": "Condition", **m} for m in made]


@pytest.mark.parametrize("expression", list(invariants._FREQUENT))
def test_a_native_rule_agrees_with_its_expression(expression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    type_path, values = _cases(expression)
    ours = Invariants({}, lambda *_: None)
    constraint = Constraint("key-1", "error", expression, "", best_practice=False)
    scopes = [Scope(value, value) for value in values]
    native = [ours.holds(constraint, v, type_path, s) for v, s in zip(values, scopes, strict=True)]
    monkeypatch.setattr(invariants, "_FREQUENT", {})
    library = [ours.holds(constraint, v, type_path, s) for v, s in zip(values, scopes, strict=True)]
    assert native == library and {True, False} <= set(native)
