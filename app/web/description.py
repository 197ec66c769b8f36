"""What /openapi.json says of errors. All routes answer errors alike (`app.web.outcome`), so which ones a route can have follows
from what it is; those under /fhir say it themselves, in FHIR's form (`app.web.fhir_wire.answers`).
"""

from http import HTTPStatus
from typing import Any

from app.web.outcome import PROBLEM_JSON
from app.web.permissions import Need, rule_of

_API = ("/api/", "/v1/")
"""Pages are for people, and no part of it; what is under /v1 answers as OpenAI does, in plain JSON."""
_ALWAYS = frozenset({429, 500, 503})
_OF_PARAMETERS = frozenset({400, 404, 409, 422})
_OF_CHANGES = frozenset({400, 404, 409, 413, 415, 422})
# FastAPI's own, which its errors do not have here.
_FRAMEWORK = "HTTPValidationError"


def with_errors(document: dict[str, Any]) -> dict[str, Any]:
    """The description, in place, with the errors of each operation that it does not state itself."""
    for path, operations in document["paths"].items():
        if not path.startswith(_API):
            continue
        media = "application/json" if path.startswith("/v1/") else PROBLEM_JSON
        for method, operation in operations.items():
            said = operation["responses"]
            if _FRAMEWORK in str(said.get("422")):
                del said["422"]
            for status in sorted(_errors(method.upper(), path, bool(operation.get("parameters")))):
                said.setdefault(str(status), _error(status, media))
    return document


def _errors(method: str, path: str, parameters: bool) -> set[int]:
    found = set(_ALWAYS)
    if rule_of(method, path) is not Need.PUBLIC:
        found |= {401, 403}
    if parameters:
        found |= _OF_PARAMETERS
    return found if method == "GET" else found | _OF_CHANGES


def _error(status: int, media: str) -> dict[str, Any]:
    return {"description": HTTPStatus(status).phrase, "content": {media: {"schema": {"type": "object"}}}}
