"""Who has access, as administrators see and change it: people and machines. Secrets go in one direction: a new link."""

from typing import Any, TypeVar
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from app import accounts, smart
from app.db import Database
from app.errors import InvalidInput
from app.web.access import Who
from app.web.wire import Body, json_body, json_response
from schemas.access import Right, Role
from schemas.value import Value

_JSON = frozenset({"application/json"})
_Model = TypeVar("_Model", bound=Value)


class NewUser(Value):
    login: str
    name: str
    roles: tuple[Role, ...]


class ChangedUser(Value):
    """What is left out stays."""

    roles: tuple[Role, ...] | None = None
    disabled: bool | None = None


class NewClient(Value):
    """`jwks`: public keys (RFC 7517)."""

    id: str
    name: str
    jwks: dict[str, Any]
    scopes: tuple[str, ...] = ()
    rights: tuple[Right, ...] = ()
    drafts: bool = False


class ChangedClient(Value):
    """What is left out stays."""

    jwks: dict[str, Any] | None = None
    disabled: bool | None = None


def accounts_router(database: Database) -> APIRouter:
    router = APIRouter(prefix="/api", tags=["access"])

    @router.get("/users")
    def list_users() -> Response:
        """Everybody who has an account."""
        with database.session_scope() as session:
            return json_response([person.model_dump(mode="json") for person in accounts.list_users(session)])

    @router.post("/users", status_code=201, openapi_extra=_body(NewUser))
    def add_user(request: Request, body: Body, who: Who) -> Response:
        """A new account, and the one-time link at which its owner chooses a password: nobody can see it again."""
        new = _read(NewUser, request, body)
        with database.session_scope() as session:
            person = accounts.add_user(session, new.login, new.name, new.roles, by=who.id)
            token = accounts.make_link(session, person.id, by=who.id)
        return json_response(person.model_dump(mode="json") | {"link": link(request, token)}, 201)

    @router.patch("/users/{user_id}", openapi_extra=_body(ChangedUser))
    def change_user(request: Request, user_id: UUID, body: Body, who: Who) -> Response:
        """Other roles, or disabled, or enabled again; 409 for the last administrator."""
        change = _read(ChangedUser, request, body)
        with database.session_scope() as session:
            if change.roles is not None:
                accounts.set_roles(session, user_id, change.roles, by=who.id)
            if change.disabled is not None:
                accounts.set_disabled(session, user_id, disabled=change.disabled, by=who.id)
            return json_response(accounts.get_user(session, user_id).model_dump(mode="json"))

    @router.post("/users/{user_id}/link", status_code=201)
    def new_link(request: Request, user_id: UUID, who: Who) -> Response:
        """A new one-time link; the present password and the person's sessions end."""
        with database.session_scope() as session:
            return json_response({"link": link(request, accounts.make_link(session, user_id, by=who.id))}, 201)

    @router.get("/clients")
    def list_clients() -> Response:
        """Every registered client."""
        with database.session_scope() as session:
            return json_response([machine.model_dump(mode="json") for machine in smart.list_clients(session)])

    @router.post("/clients", status_code=201, openapi_extra=_body(NewClient))
    def add_client(request: Request, body: Body, who: Who) -> Response:
        """Registers a client of SMART Backend Services with its public keys."""
        new = _read(NewClient, request, body)
        with database.session_scope() as session:
            machine = smart.register(
                session, new.id, new.name, new.jwks, scopes=new.scopes, rights=new.rights, drafts=new.drafts, by=who.id
            )
        return json_response(machine.model_dump(mode="json"), 201)

    @router.patch("/clients/{client_id}", openapi_extra=_body(ChangedClient))
    def change_client(request: Request, client_id: str, body: Body, who: Who) -> Response:
        """Other keys, or disabled, or enabled again; the client's tokens end."""
        change = _read(ChangedClient, request, body)
        with database.session_scope() as session:
            machine = smart.get_client(session, client_id)
            if change.jwks is not None:
                machine = smart.replace_keys(session, client_id, change.jwks, by=who.id)
            if change.disabled is not None:
                machine = smart.set_disabled(session, client_id, disabled=change.disabled, by=who.id)
        return json_response(machine.model_dump(mode="json"))

    return router


def link(request: Request, token: str) -> str:
    return f"{str(request.base_url).rstrip('/')}{accounts.SETUP_PATH}?token={token}"


def _body(model: type[Value]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template="#/x-local/{model}")
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _inline(schema)}}}}


def _inline(schema: dict[str, Any]) -> dict[str, Any]:
    """Definitions in the places that refer to them: an operation has none of its own."""
    definitions = schema.pop("$defs", {})

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            reference = value.get("$ref")
            if reference is not None:
                return walk(definitions[reference.rpartition("/")[2]])
            return {key: walk(part) for key, part in value.items()}
        return [walk(part) for part in value] if isinstance(value, list) else value

    found: dict[str, Any] = walk(schema)
    return found


def _read(model: type[_Model], request: Request, body: bytes) -> _Model:
    try:
        return model.model_validate(json_body(request, body, _JSON))
    except ValidationError as error:
        # The first step of a place alone: further ones may be keys of the sender's.
        places = sorted({str((fault["loc"] or ("body",))[0]) for fault in error.errors()} & set(model.model_fields))
        raise InvalidInput("cannot be read: " + (", ".join(places) or "unknown keys, or no object")) from None
