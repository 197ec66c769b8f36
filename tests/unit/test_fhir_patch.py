"""JSON Patch and merge patch of a resource."""

from decimal import Decimal
from typing import Any

import pytest

from app.errors import InvalidInput
from app.fhir import dumps
from app.fhir.patch import NotAPatch, json_patch, merge_patch

BEFORE: dict[str, Any] = {
    "resourceType": "Observation",
    "id": "o",
    "status": "final",
    "valueQuantity": {"value": Decimal("1.10"), "unit": "%"},
    "category": [{"text": "a"}, {"text": "b"}],
}


def test_operations_are_carried_out_and_digits_stay() -> None:
    after = json_patch(BEFORE, [
        {"op": "test", "path": "/valueQuantity/value", "value": Decimal("1.10")},
        {"op": "replace", "path": "/status", "value": "amended"},
        {"op": "remove", "path": "/category/0"},
        {"op": "add", "path": "/valueQuantity/code", "value": "%"},
    ])  # fmt: skip
    assert after["status"] == "amended" and after["category"] == [{"text": "b"}]
    assert '"value":1.10' in dumps(after)
    assert BEFORE["status"] == "final" and len(BEFORE["category"]) == 2


@pytest.mark.parametrize("operation", [
    {"op": "test", "path": "/status", "value": "cancelled"},
    {"op": "remove", "path": "/nothing"},
    {"op": "replace", "path": "/category/9", "value": 1},
    {"op": "add", "path": "/category/x", "value": 1},
    {"op": "add", "path": "/status/x", "value": 1},
    {"op": "replace", "path": "/id", "value": "other"},
    {"op": "replace", "path": "", "value": []},
    {"op": "remove", "path": ""},
    {"op": "move", "from": "/nothing", "path": "/status"},
])  # fmt: skip
def test_what_does_not_fit_is_refused(operation: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        json_patch(BEFORE, [{"op": "replace", "path": "/status", "value": "amended"}, operation])
    assert not isinstance(refused.value, NotAPatch)
    assert BEFORE["status"] == "final"


@pytest.mark.parametrize("patch", [
    {}, "x", None, [1], [{}], [{"op": "nothing", "path": "/a"}], [{"op": "add", "path": "/a"}],
    [{"op": "add", "path": 1, "value": 1}], [{"op": "move", "path": "/status"}], [{"op": "add", "path": "no-slash", "value": 1}],
    [{"op": [], "path": "/a", "value": 1}],
])  # fmt: skip
def test_what_is_no_patch_is_refused(patch: Any) -> None:
    with pytest.raises(NotAPatch):
        json_patch(BEFORE, patch)


def test_a_merge_patch_replaces_and_removes() -> None:
    after = merge_patch(BEFORE, {"status": "amended", "valueQuantity": {"unit": None}, "category": [{"text": "c"}]})
    assert after["status"] == "amended" and after["category"] == [{"text": "c"}]
    assert after["valueQuantity"] == {"value": Decimal("1.10")} and BEFORE["valueQuantity"]["unit"] == "%"
    with pytest.raises(NotAPatch):
        merge_patch(BEFORE, [1])
    with pytest.raises(InvalidInput):
        merge_patch(BEFORE, {"resourceType": "Patient"})
