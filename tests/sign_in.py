"""Signed-in clients for tests: a token straight from the database, as the token endpoint would have made it."""

from collections.abc import Iterable

from app import access
from app.db import Database
from schemas.access import RIGHTS, ROLE_SCOPES, Principal, Right, Role, Scope


def principal(
    *roles: Role, scopes: Iterable[str] = (), rights: Iterable[Right] = (), drafts: bool | None = None, name: str = "test"
) -> Principal:
    """What `roles` may do, with `scopes` and `rights` beside; all three roles when nothing is named."""
    scopes, rights = tuple(scopes), frozenset(rights)
    if not roles and not scopes and not rights:
        roles = tuple(Role)
    written = [*scopes, *(scope for role in roles for scope in ROLE_SCOPES[role])]
    found = tuple(scope for scope in map(Scope.find, written) if scope)
    allowed = rights.union(*(RIGHTS[role] for role in roles)) if roles else rights
    seen = Right.DRAFTS_READ in allowed if drafts is None else drafts
    return Principal(id=f"client:{name}", name=name, scopes=found, rights=allowed, drafts=seen)


def token(database: Database, who: Principal | None = None) -> str:
    with database.session_scope() as session:
        return access.issue_token(session, who or principal(), seconds=3600)


def headers(database: Database, who: Principal | None = None) -> dict[str, str]:
    """`client.headers.update(headers(database))` signs a TestClient in."""
    return {"Authorization": f"Bearer {token(database, who)}"}
