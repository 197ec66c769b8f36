"""Administration in a browser: who has access, people and machines. What each form does is what `/api/users` and `/api/clients` do."""

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response

from app import accounts, smart
from app.db import Database
from app.errors import HyojunError, InvalidInput
from app.web.access import Form, Who
from app.web.accounts_api import link
from app.web.admin_frame import Failure, back_to, framed, ticked
from app.web.outcome import Refused
from app.web.uploads import Upload, read_upload
from schemas.access import Person, Principal, Right, Role

MAX_JWKS_BYTES = 65_536
_MACHINE_RIGHTS = [right for right in Right if right not in smart.FOR_PEOPLE]


def admin_router(database: Database) -> APIRouter:
    router = APIRouter(prefix="/admin", include_in_schema=False)

    @router.get("")
    def home(request: Request, who: Who) -> Response:
        return framed(request, who, "admin_home.html", {})

    # --- people -------------------------------------------------------------------------------------------------------

    @router.get("/users")
    def users(request: Request, who: Who) -> Response:
        return _users_page(request, who)

    @router.post("/users")
    def add_user(request: Request, who: Who, form: Form) -> Response:
        try:
            with database.session_scope() as session:
                made = accounts.add_user(session, form.get("login", ""), form.get("name", ""), _roles(form), by=who.id)
                token = accounts.make_link(session, made.id, by=who.id)
        except HyojunError as error:
            return _users_page(request, who, error, form=form)
        return _users_page(request, who, made=made, token=token)

    @router.post("/users/{user_id}/roles")
    def set_roles(request: Request, user_id: UUID, who: Who, form: Form) -> Response:
        try:
            with database.session_scope() as session:
                accounts.set_roles(session, user_id, _roles(form), by=who.id)
        except HyojunError as error:
            return _users_page(request, who, error)
        return back_to("/admin/users")

    @router.post("/users/{user_id}/disabled")
    def set_user_disabled(request: Request, user_id: UUID, who: Who, form: Form) -> Response:
        try:
            with database.session_scope() as session:
                accounts.set_disabled(session, user_id, disabled=form.get("disabled") == "1", by=who.id)
        except HyojunError as error:
            return _users_page(request, who, error)
        return back_to("/admin/users")

    @router.post("/users/{user_id}/link")
    def new_link(request: Request, user_id: UUID, who: Who) -> Response:
        try:
            with database.session_scope() as session:
                token = accounts.make_link(session, user_id, by=who.id)
                owner = accounts.get_user(session, user_id)
        except HyojunError as error:
            return _users_page(request, who, error)
        return _users_page(request, who, made=owner, token=token)

    def _users_page(
        request: Request,
        who: Principal,
        error: Failure | None = None,
        *,
        form: Mapping[str, str] | None = None,
        made: Person | None = None,
        token: str = "",
    ) -> Response:
        """`token`: of the link of `made`, which is shown here and nowhere again."""
        with database.session_scope() as session:
            people = accounts.list_users(session)
        shown = {"name": made.name, "address": link(request, token)} if made else None
        written = {key: (form or {}).get(key, "") for key in ("login", "name")}
        values = {"people": people, "roles": list(Role), "link": shown, "form": written, "chosen": _roles(form or {})}
        return framed(request, who, "admin_users.html", values, error=error)

    # --- machines -----------------------------------------------------------------------------------------------------

    @router.get("/clients")
    def clients(request: Request, who: Who) -> Response:
        return _clients_page(request, who)

    @router.post("/clients")
    def add_client(request: Request, who: Who) -> Response:
        form: Mapping[str, str] = {}
        try:
            upload = read_upload(request)
            form = upload.fields
            jwks, rights = _jwks(upload), tuple(right for right in Right if right in ticked(form, "right"))
            with database.session_scope() as session:
                smart.register(
                    session, form.get("id", ""), form.get("name", ""), jwks, scopes=form.get("scopes", "").split(),
                    rights=rights, drafts="drafts" in form, by=who.id,
                )  # fmt: skip
        except (HyojunError, Refused) as error:
            return _clients_page(request, who, error, form)
        return back_to("/admin/clients")

    @router.post("/clients/{client_id}/keys")
    def replace_keys(request: Request, client_id: str, who: Who) -> Response:
        try:
            jwks = _jwks(read_upload(request))
            with database.session_scope() as session:
                smart.replace_keys(session, client_id, jwks, by=who.id)
        except (HyojunError, Refused) as error:
            return _clients_page(request, who, error)
        return back_to("/admin/clients")

    @router.post("/clients/{client_id}/disabled")
    def set_client_disabled(request: Request, client_id: str, who: Who, form: Form) -> Response:
        try:
            with database.session_scope() as session:
                smart.set_disabled(session, client_id, disabled=form.get("disabled") == "1", by=who.id)
        except HyojunError as error:
            return _clients_page(request, who, error)
        return back_to("/admin/clients")

    def _clients_page(
        request: Request, who: Principal, error: Failure | None = None, form: Mapping[str, str] | None = None
    ) -> Response:
        with database.session_scope() as session:
            machines = smart.list_clients(session)
        written = {key: (form or {}).get(key, "") for key in ("id", "name", "scopes", "drafts")}  # never a key: it may be a secret one
        values: dict[str, Any] = {"machines": machines, "rights": _MACHINE_RIGHTS, "form": written}
        return framed(request, who, "admin_clients.html", values | {"chosen": ticked(form or {}, "right")}, error=error)

    return router


def _roles(form: Mapping[str, str]) -> tuple[Role, ...]:
    return tuple(role for role in Role if role in ticked(form, "role"))


def _jwks(upload: Upload) -> Any:
    """Of the file, or else of the field. Raises: InvalidInput, TooLong."""
    written = upload.content(MAX_JWKS_BYTES) or upload.fields.get("jwks", "").encode()
    try:
        return json.loads(written)
    except ValueError:
        raise InvalidInput("jwks: is not JSON") from None
