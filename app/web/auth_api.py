"""Machines at the door: the token endpoint of SMART Backend Services, and where clients learn of it."""

from typing import Any

from fastapi import APIRouter, Request, Response

from app import smart
from app.db import Database
from app.smart import TokenRefused
from app.web.access import Form
from app.web.wire import json_response

TOKEN_PATH = "/auth/token"  # noqa: S105 a path
_NEVER_KEPT = {"Cache-Control": "no-store", "Pragma": "no-cache"}  # RFC 6749, 5.1
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "A token (RFC 6749, 5.1)", "content": {"application/json": {"schema": {"type": "object"}}}},
    400: {"description": "The error of RFC 6749, 5.2", "content": {"application/json": {"schema": {"type": "object"}}}},
    401: {"description": "invalid_client", "content": {"application/json": {"schema": {"type": "object"}}}},
    429: {"description": "Too many tries", "content": {"application/problem+json": {"schema": {"type": "object"}}}},
}
_FIELDS = ("grant_type", "scope", "client_assertion_type", "client_assertion")
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "properties": {name: {"type": "string"} for name in _FIELDS},
                    "required": [name for name in _FIELDS if name != "scope"],
                }
            }
        },
    }
}


def auth_router(database: Database) -> APIRouter:
    router = APIRouter(tags=["sign-in"])

    @router.post(TOKEN_PATH, responses=_ANSWERS, openapi_extra=_BODY)
    def token(request: Request, form: Form) -> Response:
        """An access token for five minutes, against a JWT that the client has signed with a registered key.

        Without `scope` it has all scopes of the client, else those of them that are asked for.
        """
        try:
            with database.session_scope() as session:
                granted = smart.exchange(session, form, [token_url(request)])
        except TokenRefused as error:
            status = 401 if error.code == "invalid_client" else 400
            return json_response({"error": error.code, "error_description": str(error)}, status, _NEVER_KEPT)
        request.state.principal = granted.principal
        answer = {
            "access_token": granted.token,
            "token_type": "bearer",
            "expires_in": granted.seconds,
            "scope": granted.scope,
        }
        return json_response(answer, 200, _NEVER_KEPT)

    @router.get("/fhir/.well-known/smart-configuration")
    @router.get("/.well-known/smart-configuration")
    def smart_configuration(request: Request) -> Response:
        """Source: SMART App Launch 2.2, conformance (https://hl7.org/fhir/smart-app-launch/conformance.html)."""
        return json_response(
            {
                "token_endpoint": token_url(request),
                "grant_types_supported": ["client_credentials"],
                "token_endpoint_auth_methods_supported": ["private_key_jwt"],
                "token_endpoint_auth_signing_alg_values_supported": list(smart.ALGORITHMS),
                "scopes_supported": ["system/*.cruds", "system/*.rs", "system/*.read", "system/*.write"],
                # Asked for by the specification of every server, although there is no authorization endpoint here.
                "code_challenge_methods_supported": ["S256"],
                "capabilities": ["client-confidential-asymmetric", "permission-v1", "permission-v2"],
            }
        )

    return router


def token_url(request: Request) -> str:
    """The audience of assertions; as PUBLIC_URL says, else as the request does."""
    return str(request.base_url).rstrip("/") + TOKEN_PATH
