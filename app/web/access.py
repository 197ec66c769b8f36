"""Who sends a request, and may they? Every route asks here."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request

from app import access
from app.db import Database
from app.errors import Forbidden, NotSignedIn
from schemas.access import Principal, Right


def current_principal(request: Request) -> Principal:
    """Of the request's bearer token. Raises: NotSignedIn."""
    found = getattr(request.state, "principal", None)
    if isinstance(found, Principal):
        return found
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise NotSignedIn("this needs a bearer token (Authorization: Bearer …)")
    database: Database = request.app.state.database
    with database.session_scope() as session:
        principal = access.principal_of(session, token.strip())
    request.state.principal = principal
    return principal


Who = Annotated[Principal, Depends(current_principal)]
"""The one who asks. Raises: NotSignedIn."""


def needs(right: Right) -> Callable[..., None]:
    """A route's dependency: `dependencies=[Depends(needs(Right.BATCHES))]`. Raises: NotSignedIn, Forbidden."""

    def check(who: Who) -> None:
        if not who.has(right):
            raise Forbidden(f"this needs the right {right.value}")

    return check
