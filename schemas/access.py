"""Who asks, and what they may do. Machines have SMART scopes, people have roles; both become one `Principal`."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from schemas.value import Value


class Role(StrEnum):
    """What a person does here; somebody may have several.

    `integrator`: hospital IT: sends notes, runs batches, reads what is released. `reviewer`: judges results, so reads notes
    and drafts. `admin`: people, clients, tables, the audit log; no patient's data.
    """

    INTEGRATOR = "integrator"
    REVIEWER = "reviewer"
    ADMIN = "admin"


class Right(StrEnum):
    """What a route asks for beside FHIR's own scopes: `what.how`."""

    NOTES_READ = "notes.read"
    NOTES_WRITE = "notes.write"
    DRAFTS_READ = "drafts.read"
    BATCHES = "batches"
    REVIEW = "review"
    MODEL = "model"
    TERMINOLOGY_READ = "terminology.read"
    TERMINOLOGY_WRITE = "terminology.write"
    PUSH = "push"
    USERS = "users"
    CLIENTS = "clients"
    AUDIT = "audit"
    METRICS = "metrics"


RIGHTS: dict[Role, frozenset[Right]] = {
    Role.INTEGRATOR: frozenset({
        Right.NOTES_READ, Right.NOTES_WRITE, Right.BATCHES, Right.MODEL, Right.TERMINOLOGY_READ, Right.PUSH,
    }),
    Role.REVIEWER: frozenset({Right.NOTES_READ, Right.DRAFTS_READ, Right.REVIEW, Right.TERMINOLOGY_READ}),
    Role.ADMIN: frozenset({
        Right.TERMINOLOGY_READ, Right.TERMINOLOGY_WRITE, Right.USERS, Right.CLIENTS, Right.AUDIT, Right.METRICS,
        Right.PUSH,
    }),
}  # fmt: skip
ROLE_SCOPES: dict[Role, tuple[str, ...]] = {
    Role.INTEGRATOR: ("system/*.cruds",),
    Role.REVIEWER: ("system/*.rs",),
    Role.ADMIN: (),
}
"""What a person of the role may do at /fhir, in the words of scopes."""

_ACTIONS = "cruds"
# SMART App Launch 2.0, scopes: system/<type>.<c r u d s in this order>; version 1 wrote read, write and *.
_SCOPE = re.compile(r"system/(\*|[A-Z][A-Za-z]*)\.(c?r?u?d?s?|read|write|\*)")
_FORMER = {"read": "rs", "write": "cud", "*": _ACTIONS}


class Scope(Value):
    """A SMART system scope. `actions`: of c(reate) r(ead) u(pdate) d(elete) s(earch)."""

    type: str
    actions: frozenset[str]

    @classmethod
    def find(cls, written: str) -> "Scope | None":
        """None for what is no system scope, or one with search parameters, which are not supported."""
        match = _SCOPE.fullmatch(written)
        if match is None or not match[2]:
            return None
        return cls(type=match[1], actions=frozenset(_FORMER.get(match[2], match[2])))

    def allows(self, type_: str, action: str) -> bool:
        return self.type in ("*", type_) and action in self.actions

    def __str__(self) -> str:
        return f"system/{self.type}." + "".join(action for action in _ACTIONS if action in self.actions)


def granted(asked: Iterable[Scope], allowed: Sequence[Scope]) -> tuple[Scope, ...]:
    """What of `asked` lies within `allowed`; a wildcard becomes the types that are allowed."""
    found: dict[str, frozenset[str]] = {}
    for wanted in asked:
        for limit in allowed:
            if "*" in (wanted.type, limit.type) or wanted.type == limit.type:
                type_ = limit.type if wanted.type == "*" else wanted.type
                found[type_] = found.get(type_, frozenset()) | (wanted.actions & limit.actions)
    return tuple(Scope(type=type_, actions=actions) for type_, actions in found.items() if actions)


class Principal(Value):
    """Who asks. `id`: `user:<uuid>`, `client:<client id>` or `system:<part>`; it names the actor in audit events.

    `scopes`: at /fhir. `rights`: everywhere else. `drafts`: may see what no person has released.
    """

    id: str
    name: str
    scopes: tuple[Scope, ...] = ()
    rights: frozenset[Right] = frozenset()
    drafts: bool = False

    def may(self, type_: str, action: str) -> bool:
        """`action`: one of c r u d s; `type_`: a FHIR type."""
        return any(scope.allows(type_, action) for scope in self.scopes)

    def has(self, right: Right) -> bool:
        return right in self.rights


def principal_of_roles(id_: str, name: str, roles: Iterable[Role]) -> Principal:
    """What somebody of `roles` may do."""
    chosen = tuple(roles)
    rights = frozenset().union(*(RIGHTS[role] for role in chosen))
    scopes = tuple(scope for role in chosen for scope in map(Scope.find, ROLE_SCOPES[role]) if scope)
    return Principal(id=id_, name=name, scopes=scopes, rights=rights, drafts=Right.DRAFTS_READ in rights)


class Person(Value):
    """Somebody with an account. `login`: what he types; `name`: what others see. `external`: his password is kept by an
    OpenID provider. `ready`: there is a way for him to sign in."""

    id: UUID
    login: str
    name: str
    roles: tuple[Role, ...]
    external: bool
    ready: bool
    disabled: bool
    created_at: datetime


class Machine(Value):
    """A registered client of SMART Backend Services. `keys`: the key ids of its JWKS."""

    id: str
    name: str
    scopes: tuple[str, ...]
    rights: tuple[Right, ...]
    drafts: bool
    keys: tuple[str, ...]
    disabled: bool
    created_at: datetime
