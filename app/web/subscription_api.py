"""`/fhir/Subscription`: rest-hook channels that clients ask for themselves, each seeing its own.

An endpoint must be on a host of PUSH_ALLOWED_HOSTS. Source: https://hl7.org/fhir/R4/subscription.html.
"""

from collections.abc import Collection
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from app import subscriptions
from app.db import Database
from app.errors import Forbidden
from app.subscriptions import Stored
from app.web.access import Who
from app.web.fhir_interactions import check_resource
from app.web.fhir_wire import (
    Json,
    Return,
    answers,
    base_of,
    check_condition_header,
    fhir_answer,
    fhir_body,
    http_date,
    prefer,
    readable,
    version_of,
)
from app.web.outcome import malformed
from app.web.wire import Body, check_fhir_format
from schemas.access import Principal

MAX_COUNT = 1_000
_SEARCHED = ("_id", "status", "criteria", "url")
_RESULT = ("_count", "_offset", "_format", "_pretty", "_total", "_summary")


def subscription_router(database: Database, hosts: Collection[str]) -> APIRouter:
    """`hosts`: those that an endpoint may be on, as `name` or `name:port`."""
    router = APIRouter(prefix="/fhir", tags=["fhir"])

    @router.post("/Subscription", status_code=201, responses=answers(201, 415, 422))
    def create_subscription(request: Request, body: Body, who: Who) -> Response:
        """Its status is `requested` until its endpoint answered a POST without a body; then `active`."""
        check_fhir_format(request)
        _needs(who, "c")
        check_condition_header(request)
        content = _content(request, body)
        with database.session_scope() as session:
            made = subscriptions.create(session, content, who, hosts)
        location = f"{base_of(request)}/Subscription/{made.id}/_history/{made.version}"
        return _changed(request, made, 201, {"Location": location})

    @readable(router, "/Subscription", responses=answers(200))
    def search_subscriptions(
        request: Request, who: Who, count: Annotated[int, Query(alias="_count", ge=0, le=MAX_COUNT)] = 50,
        offset: Annotated[int, Query(alias="_offset", ge=0, le=1_000_000)] = 0,
    ) -> Response:  # fmt: skip
        """The client's own, newest first: `_id`, `status`, `criteria` (its beginning), `url`."""
        check_fhir_format(request)
        _needs(who, "s")
        given = {name: request.query_params[name] for name in _SEARCHED if name in request.query_params}
        unknown = sorted(set(request.query_params) - {*_SEARCHED, *_RESULT})
        if unknown and prefer(request).strict:
            raise malformed("a parameter is not known here")
        with database.session_scope() as session:
            found, total = subscriptions.find(
                session, who, status=given.get("status"), criteria=given.get("criteria"), url=given.get("url"),
                id_=given.get("_id"), count=count, offset=offset,
            )  # fmt: skip
        base = f"{base_of(request)}/Subscription"

        def page(start: int) -> str:
            return f"{base}?{urlencode({**given, '_count': count, '_offset': start})}"

        links = [{"relation": "self", "url": page(offset)}]
        if count and offset + count < total:
            links.append({"relation": "next", "url": page(offset + count)})
        bundle: Json = {"resourceType": "Bundle", "type": "searchset", "total": total, "link": links}
        if found:
            bundle["entry"] = [
                {"fullUrl": f"{base}/{one.id}", "resource": one.resource, "search": {"mode": "match"}} for one in found
            ]
        return fhir_answer(request, bundle)

    @readable(router, "/Subscription/{subscription_id}", responses=answers(200, 404))
    def read_subscription(request: Request, subscription_id: str, who: Who) -> Response:
        """With its present status; the channel's headers are not shown."""
        check_fhir_format(request)
        _needs(who, "r")
        with database.session_scope() as session:
            found = subscriptions.read(session, subscription_id, who)
        return fhir_answer(request, found.resource, 200, _headers(found))

    @router.put("/Subscription/{subscription_id}", responses=answers(200, 404, 412, 415, 422))
    def update_subscription(request: Request, subscription_id: str, body: Body, who: Who) -> Response:
        """The whole of it anew, the channel's headers too; its endpoint is asked again, unless its status is `off`."""
        check_fhir_format(request)
        _needs(who, "u")
        content = _content(request, body)
        # https://hl7.org/fhir/R4/http.html#update
        if content.get("id") != subscription_id:
            raise malformed("Subscription.id: must be the one of the address")
        expected = version_of(request.headers.get("if-match"))
        with database.session_scope() as session:
            made = subscriptions.change(session, subscription_id, content, who, hosts, if_match=expected)
        return _changed(request, made, 200, {})

    @router.delete("/Subscription/{subscription_id}", status_code=204, responses=answers(204, 404))
    def delete_subscription(subscription_id: str, who: Who) -> Response:
        """What waits for it is dropped."""
        _needs(who, "d")
        with database.session_scope() as session:
            subscriptions.remove(session, subscription_id, who)
        return Response(status_code=204)

    return router


def _content(request: Request, body: bytes) -> Json:
    """Raises: Refused."""
    content = fhir_body(request, body)
    if content.get("resourceType") != "Subscription":
        raise malformed("the body must be a Subscription")
    check_resource(content, None)
    return content


def _needs(who: Principal, action: str) -> None:
    if not who.may("Subscription", action):
        raise Forbidden("this needs a scope for Subscription")


def _headers(stored: Stored) -> dict[str, str]:
    return {"ETag": f'W/"{stored.version}"', "Last-Modified": http_date(stored.changed_at)}


def _changed(request: Request, stored: Stored, status: int, headers: dict[str, str]) -> Response:
    if prefer(request).returned is Return.MINIMAL:
        return Response(b"", status, headers | _headers(stored))
    return fhir_answer(request, stored.resource, status, headers | _headers(stored))
