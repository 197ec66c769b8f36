"""A resource changed by a patch: JSON Patch (RFC 6902) or a merge patch (RFC 7386). Digits of decimals stay.

Source of the rules on resources: https://hl7.org/fhir/R4/http.html#patch.
"""

import copy
from typing import Any

import jsonpatch
from jsonpointer import JsonPointerException

from app.errors import InvalidInput
from app.fhir.elements import Json

MAX_OPERATIONS = 1000


class NotAPatch(InvalidInput):
    """What came is no patch at all, rather than one that does not fit the resource."""


def json_patch(resource: Json, operations: Any) -> Json:
    """A changed copy. Raises: NotAPatch; InvalidInput where an operation does not fit, or a `test` fails."""
    if not isinstance(operations, list) or not all(isinstance(one, dict) for one in operations):
        raise NotAPatch("a JSON Patch is a list of operations")
    if len(operations) > MAX_OPERATIONS:
        raise InvalidInput(f"the patch has more than {MAX_OPERATIONS} operations")
    try:
        patch = jsonpatch.JsonPatch(operations)
    except (jsonpatch.InvalidJsonPatch, JsonPointerException, TypeError, ValueError):
        raise NotAPatch("an operation of the patch has no known `op`, `path` or `value`") from None
    try:
        changed = patch.apply(resource)
    except jsonpatch.JsonPatchTestFailed:
        raise InvalidInput("a test of the patch does not hold; nothing was changed") from None
    except jsonpatch.InvalidJsonPatch:
        raise NotAPatch("an operation of the patch lacks `from` or `value`") from None
    except (jsonpatch.JsonPatchException, JsonPointerException, TypeError, ValueError, LookupError, AttributeError):
        raise InvalidInput("an operation of the patch does not fit the resource; nothing was changed") from None
    return _same(resource, changed)


def merge_patch(resource: Json, patch: Any) -> Json:
    """A changed copy: what the patch has replaces, null removes. Raises: NotAPatch; InvalidInput."""
    if not isinstance(patch, dict):
        raise NotAPatch("a merge patch is a JSON object")
    return _same(resource, _merged(resource, patch))


def _merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged


def _same(before: Json, after: Any) -> Json:
    if not isinstance(after, dict) or any(after.get(key) != before.get(key) for key in ("resourceType", "id")):
        raise InvalidInput("a patch cannot change the type or the id of a resource")
    return after
