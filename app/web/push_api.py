"""`/api/push`: where things are sent to, what waits and what was given up, for those with the right `push`.

Over the API only hosts of PUSH_ALLOWED_HOSTS can be named, and plain http only to this host itself: whoever gets hold of an
account cannot send patients' data elsewhere.
"""

from collections.abc import Collection
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import ValidationError

from app import destinations, outbox
from app.db import Database
from app.errors import InvalidInput, NotFound
from app.web.access import Who, needs
from app.web.wire import Body, json_body, json_response
from schemas.access import Right
from schemas.push import DeliveryState, DestinationStatus, NewDestination

MAX_COUNT = 1_000
_JSON = frozenset({"application/json"})


def push_router(database: Database, hosts: Collection[str]) -> APIRouter:
    """`hosts`: those that may be named, as `name` or `name:port`."""
    router = APIRouter(prefix="/api/push", tags=["push"], dependencies=[Depends(needs(Right.PUSH))])

    @router.get("/destinations")
    def list_destinations() -> Response:
        """Every destination, with what waits for it and why the newest try failed."""
        with database.session_scope() as session:
            found = [one.model_dump(mode="json") for one in outbox.status(session)]
        return json_response(found)

    @router.post("/destinations", status_code=201, openapi_extra=_body())
    def add_destination(request: Request, body: Body, who: Who) -> Response:
        """A FHIR server or a webhook. `signing_key`: a webhook's; nobody can see it again."""
        try:
            new = NewDestination.model_validate(json_body(request, body, _JSON))
        except ValidationError as error:
            places = sorted({".".join(str(part) for part in detail["loc"]) for detail in error.errors()})
            raise InvalidInput("cannot be read: " + ", ".join(places)) from None
        if new.http:
            raise InvalidInput("http: plain http is for `hyojun push add` alone")
        with database.session_scope() as session:
            row, key = destinations.add(session, new, by=who.id, hosts=hosts)
            made = next(one for one in outbox.status(session) if one.id == row.id)
        return json_response(made.model_dump(mode="json") | ({"signing_key": key} if key else {}), 201)

    @router.get("/destinations/{name}")
    def read_destination(name: str) -> Response:
        """One destination."""
        with database.session_scope() as session:
            return json_response(_shown(outbox.status(session), name))

    @router.delete("/destinations/{name}", status_code=204)
    def remove_destination(name: str, who: Who, force: bool = False) -> Response:
        """409 while something waits there or is dead; `force` drops it."""
        with database.session_scope() as session:
            destinations.remove(session, name, by=who.id, force=force)
        return Response(status_code=204)

    @router.post("/destinations/{name}/pause")
    def pause_destination(name: str) -> Response:
        """Nothing is sent there until it is resumed; what happens meanwhile waits."""
        with database.session_scope() as session:
            destinations.pause(session, name)
            return json_response(_shown(outbox.status(session), name))

    @router.post("/destinations/{name}/resume")
    def resume_destination(name: str) -> Response:
        """Sent again, and at once."""
        with database.session_scope() as session:
            destinations.resume(session, name)
            return json_response(_shown(outbox.status(session), name))

    @router.post("/destinations/{name}/replay")
    def replay_destination(name: str) -> Response:
        """What was given up there waits again."""
        with database.session_scope() as session:
            return json_response({"replayed": outbox.replay(session, name)})

    @router.get("/deliveries")
    def list_deliveries(
        destination: Annotated[str | None, Query(max_length=64)] = None,
        state: DeliveryState | None = None,
        count: Annotated[int, Query(ge=1, le=MAX_COUNT)] = 100,
    ) -> Response:
        """Deliveries, the newest first."""
        with database.session_scope() as session:
            found = outbox.deliveries(session, destination=destination, state=state, limit=count)
        return json_response([one.model_dump(mode="json") for one in found])

    @router.post("/deliveries/{delivery_id}/replay")
    def replay_delivery(delivery_id: UUID) -> Response:
        """A delivery that was given up waits again; 404 for any other."""
        with database.session_scope() as session:
            if not outbox.replay(session, ids=[delivery_id]):
                raise NotFound("there is no dead delivery of that id")
        return json_response({"replayed": 1})

    return router


def _shown(found: list[DestinationStatus], name: str) -> dict[str, object]:
    for one in found:
        if one.name == name:
            return one.model_dump(mode="json")
    raise NotFound("there is no destination of that name")


def _body() -> dict[str, Any]:
    schema = NewDestination.model_json_schema()
    definitions = schema.pop("$defs", {})

    def inlined(value: Any) -> Any:
        """Definitions in the places that refer to them: an operation has none of its own."""
        if isinstance(value, dict):
            if "$ref" in value:
                return inlined(definitions[value["$ref"].rpartition("/")[2]])
            return {key: inlined(part) for key, part in value.items()}
        return [inlined(part) for part in value] if isinstance(value, list) else value

    return {"requestBody": {"required": True, "content": {"application/json": {"schema": inlined(schema)}}}}
