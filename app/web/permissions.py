"""Who may ask for what: one line a route. What is not listed here is refused, whatever the route itself says.

Paths are written as the routes declare them, the names of their parameters left out.
"""

import re
from collections.abc import Mapping
from enum import StrEnum

from app.errors import Forbidden
from schemas.access import Principal, Right


class Need(StrEnum):
    """What is asked for where it is no right."""

    PUBLIC = "nobody has to sign in"
    SIGNED_IN = "anybody who is signed in"
    PERSON = "a person who is signed in"
    FHIR = "some scope; the route asks for the one that it needs"
    TERMINOLOGY = "some scope, or the right terminology.read: no patient's data"


Rule = Need | tuple[Right, ...]
"""Of several rights one is enough."""

_READ = (Right.NOTES_READ,)
_WRITE = (Right.NOTES_WRITE,)
_BATCHES = (Right.BATCHES,)
_PUSH = (Right.PUSH,)
_USERS = (Right.USERS,)
_CLIENTS = (Right.CLIENTS,)
_TABLES = (Right.TERMINOLOGY_WRITE,)
_AUDIT = (Right.AUDIT,)
_REVIEW = (Right.REVIEW,)
_CLAIMS = (Right.BATCHES, Right.REVIEW)
_FHIR: Mapping[str, Rule] = dict.fromkeys(("GET", "POST", "PUT", "PATCH", "DELETE"), Need.FHIR)

RULES: Mapping[str, Mapping[str, Rule]] = {
    "/": {"GET": Need.SIGNED_IN},
    "/healthz": {"GET": Need.PUBLIC},
    "/readyz": {"GET": Need.PUBLIC},
    "/openapi.json": {"GET": Need.SIGNED_IN},
    "/metrics": {"GET": (Right.METRICS,)},
    # People at the door.
    "/login": {"GET": Need.PUBLIC, "POST": Need.PUBLIC},
    "/login/oidc": {"GET": Need.PUBLIC},
    "/login/oidc/callback": {"GET": Need.PUBLIC},
    "/setup": {"GET": Need.PUBLIC, "POST": Need.PUBLIC},
    "/logout": {"POST": Need.PERSON},
    "/account": {"GET": Need.PERSON},
    "/account/password": {"POST": Need.PERSON},
    "/static/{}": {"GET": Need.PUBLIC},
    "/language": {"POST": Need.PERSON},
    # Machines at the door.
    "/auth/token": {"POST": Need.PUBLIC},
    "/.well-known/smart-configuration": {"GET": Need.PUBLIC},
    "/fhir/.well-known/smart-configuration": {"GET": Need.PUBLIC},
    "/fhir/metadata": {"GET": Need.PUBLIC},
    # Who may do what.
    "/api/users": {"GET": (Right.USERS,), "POST": (Right.USERS,)},
    "/api/users/{}": {"PATCH": (Right.USERS,)},
    "/api/users/{}/link": {"POST": (Right.USERS,)},
    "/api/clients": {"GET": (Right.CLIENTS,), "POST": (Right.CLIENTS,)},
    "/api/clients/{}": {"PATCH": (Right.CLIENTS,)},
    "/api/audit": {"GET": (Right.AUDIT,)},
    # Administration, in a browser.
    "/admin": {"GET": (*_USERS, *_CLIENTS, *_TABLES, *_AUDIT)},
    "/admin/users": {"GET": _USERS, "POST": _USERS},
    "/admin/users/{}/roles": {"POST": _USERS},
    "/admin/users/{}/disabled": {"POST": _USERS},
    "/admin/users/{}/link": {"POST": _USERS},
    "/admin/clients": {"GET": _CLIENTS, "POST": _CLIENTS},
    "/admin/clients/{}/keys": {"POST": _CLIENTS},
    "/admin/clients/{}/disabled": {"POST": _CLIENTS},
    "/admin/terminology": {"GET": _TABLES},
    "/admin/terminology/imports": {"POST": _TABLES},
    "/admin/terminology/imports/{}": {"GET": _TABLES},
    "/admin/terminology/starter": {"POST": _TABLES},
    "/admin/terminology/use": {"POST": _TABLES},
    "/admin/terminology/compare": {"GET": _TABLES},
    "/admin/terminology/compare.csv": {"GET": _TABLES},
    "/admin/system": {"GET": (*_USERS, *_CLIENTS)},
    "/admin/audit": {"GET": _AUDIT},
    "/admin/audit/checks": {"POST": _AUDIT},
    "/admin/audit/checks/{}": {"GET": _AUDIT},
    "/dashboard": {"GET": _REVIEW},
    "/dashboard/names": {"GET": _REVIEW},
    "/dashboard/mappings": {"POST": _REVIEW},
    "/dashboard/{}.csv": {"GET": _REVIEW},
    "/trace/notes/{}": {"GET": _REVIEW},
    "/trace/{}/{}": {"GET": _REVIEW},
    "/batches": {"GET": _BATCHES, "POST": _BATCHES},
    "/batches/{}": {"GET": _BATCHES},
    "/batches/{}/pause": {"POST": _BATCHES},
    "/batches/{}/resume": {"POST": _BATCHES},
    "/batches/{}/cancel": {"POST": _BATCHES},
    "/batches/{}/retry-failed": {"POST": _BATCHES},
    # Notes. Whoever sent one may see how far it is; that shows nothing of what it says.
    "/api/notes": {"POST": _WRITE},
    "/api/notes/{}": {"GET": _READ},
    "/api/notes/{}/jobs": {"POST": _WRITE},
    "/api/notes/{}/bundle": {"GET": _READ},
    "/api/notes/{}/ssmix2": {"GET": _READ},
    "/api/jobs/{}": {"GET": (Right.NOTES_READ, Right.NOTES_WRITE)},
    "/api/patients/{}/ssmix2.zip": {"GET": _READ},
    # The models, for other uses.
    "/v1/chat/completions": {"POST": (Right.MODEL,)},
    "/v1/completions": {"POST": (Right.MODEL,)},
    "/v1/models": {"GET": (Right.MODEL,)},
    "/v1/models/{}": {"GET": (Right.MODEL,)},
    # FHIR: tables of codes, and checking what is sent.
    "/fhir/CodeSystem": {"GET": Need.TERMINOLOGY},
    "/fhir/CodeSystem/{}": {"GET": Need.TERMINOLOGY},
    "/fhir/CodeSystem/$lookup": {"GET": Need.TERMINOLOGY, "POST": Need.TERMINOLOGY},
    "/fhir/ValueSet/$expand": {"GET": Need.TERMINOLOGY, "POST": Need.TERMINOLOGY},
    "/fhir/ConceptMap/$translate": {"GET": Need.TERMINOLOGY, "POST": Need.TERMINOLOGY},
    "/fhir/$validate": {"POST": Need.TERMINOLOGY},
    "/fhir/{}/$validate": {"POST": Need.TERMINOLOGY},
    # FHIR: patients' data.
    "/fhir": {"POST": Need.FHIR},
    "/fhir/_history": {"GET": Need.FHIR},
    "/fhir/{}": _FHIR,
    "/fhir/{}/_search": {"POST": Need.FHIR},
    "/fhir/{}/_history": {"GET": Need.FHIR},
    "/fhir/{}/{}": _FHIR,
    "/fhir/{}/{}/_history": {"GET": Need.FHIR},
    "/fhir/{}/{}/_history/{}": {"GET": Need.FHIR},
    "/fhir/Patient/{}/$everything": {"GET": Need.FHIR},
    "/fhir/Patient/{}/$clins-bundle": {"GET": Need.FHIR},
    "/fhir/DocumentReference": {"POST": Need.FHIR},
    "/fhir/DocumentReference/{}/$document": {"GET": Need.FHIR},
    "/fhir/DocumentReference/$standardize": {"POST": Need.FHIR},
    "/fhir/DocumentReference/$standardize/{}": {"GET": Need.FHIR, "DELETE": Need.FHIR},
    "/fhir/Task/{}": {"GET": Need.FHIR},
    "/fhir/Subscription": {"GET": Need.FHIR, "POST": Need.FHIR},
    "/fhir/Subscription/{}": {"GET": Need.FHIR, "PUT": Need.FHIR, "DELETE": Need.FHIR},
    "/fhir/$export": {"GET": Need.FHIR, "POST": Need.FHIR},
    "/fhir/Patient/$export": {"GET": Need.FHIR, "POST": Need.FHIR},
    "/fhir/Group/{}/$export": {"GET": Need.FHIR, "POST": Need.FHIR},
    "/fhir/$export/{}": {"GET": Need.FHIR, "DELETE": Need.FHIR},
    "/fhir/$export/{}/{}": {"GET": Need.FHIR},
    # People who judge what was read.
    "/review": {"GET": _REVIEW},
    "/review/next": {"POST": _REVIEW},
    "/review/codes": {"POST": _REVIEW},
    "/review/{}": {"GET": _REVIEW},
    "/review/{}/take": {"POST": _REVIEW},
    "/review/{}/give-back": {"POST": _REVIEW},
    "/review/{}/accept-visible": {"POST": _REVIEW},
    "/review/{}/check": {"POST": _REVIEW},
    "/review/{}/new": {"GET": _REVIEW},
    "/review/{}/add": {"POST": _REVIEW},
    "/review/{}/release": {"GET": _REVIEW, "POST": _REVIEW},
    "/review/{}/withdraw": {"GET": _REVIEW, "POST": _REVIEW},
    "/review/{}/second": {"POST": _REVIEW},
    "/review/{}/second/choose": {"POST": _REVIEW},
    "/review/{}/second/finish": {"POST": _REVIEW},
    "/review/{}/differences": {"GET": _REVIEW, "POST": _REVIEW},
    "/review/{}/items/{}": {"GET": _REVIEW},
    "/review/{}/items/{}/edit": {"GET": _REVIEW},
    "/review/{}/items/{}/decide": {"POST": _REVIEW},
    "/review/{}/items/{}/amend": {"POST": _REVIEW},
    "/review/{}/items/{}/undo": {"POST": _REVIEW},
    # Receipt checks: the page of a claim shows the chart, and decides.
    "/review/receipts": {"GET": _CLAIMS},
    "/review/receipts/files": {"POST": _CLAIMS},
    "/review/receipts/{}": {"GET": _CLAIMS},
    "/review/receipts/{}/recheck": {"POST": _CLAIMS},
    "/review/receipts/{}/cancel": {"POST": _CLAIMS},
    "/review/receipts/{}/next": {"POST": _REVIEW},
    "/review/receipts/{}/{}": {"GET": _REVIEW},
    "/review/receipts/{}/{}/items/{}": {"GET": _REVIEW},
    "/review/receipts/{}/{}/items/{}/edit": {"GET": _REVIEW, "POST": _REVIEW},
    "/review/receipts/{}/{}/items/{}/decide": {"POST": _REVIEW},
    "/review/receipts/{}/{}/items/{}/undo": {"POST": _REVIEW},
    # Many notes, and what goes out by itself.
    "/api/batches": {"GET": _BATCHES, "POST": _BATCHES},
    "/api/batches/{}": {"GET": _BATCHES},
    "/api/batches/{}/pause": {"POST": _BATCHES},
    "/api/batches/{}/resume": {"POST": _BATCHES},
    "/api/batches/{}/cancel": {"POST": _BATCHES},
    "/api/batches/{}/retry-failed": {"POST": _BATCHES},
    "/api/batches/{}/errors": {"GET": _BATCHES},
    "/api/batches/{}/report.html": {"GET": _BATCHES},
    "/api/batches/{}/report.csv": {"GET": _BATCHES},
    "/api/batches/{}/output.ndjson": {"GET": _BATCHES},
    "/api/batches/{}/ssmix2.zip": {"GET": _BATCHES},
    # Receipts: whoever sends notes sends claims; people who judge decide.
    "/api/receipt-checks": {"GET": _CLAIMS, "POST": _CLAIMS},
    "/api/receipt-checks/{}": {"GET": _CLAIMS},
    "/api/receipt-checks/{}/claims": {"GET": _CLAIMS},
    "/api/receipt-checks/{}/claims/{}": {"GET": _CLAIMS},
    "/api/receipt-checks/{}/cancel": {"POST": _CLAIMS},
    "/api/receipt-checks/{}/recheck": {"POST": _CLAIMS},
    "/api/receipt-checks/{}/report.csv": {"GET": _CLAIMS},
    "/api/receipt-checks/{}/uke": {"GET": _CLAIMS},
    "/api/receipt-items/{}/decision": {"POST": _REVIEW},
    "/api/receipt-items/{}/undo": {"POST": _REVIEW},
    "/api/receipt-tables": {"GET": (Right.TERMINOLOGY_READ,), "POST": _TABLES},
    "/api/receipt-tables/{}/activate": {"POST": _TABLES},
    "/api/receipt-tables/{}/deactivate": {"POST": _TABLES},
    "/api/push/destinations": {"GET": _PUSH, "POST": _PUSH},
    "/api/push/destinations/{}": {"GET": _PUSH, "DELETE": _PUSH},
    "/api/push/destinations/{}/pause": {"POST": _PUSH},
    "/api/push/destinations/{}/resume": {"POST": _PUSH},
    "/api/push/destinations/{}/replay": {"POST": _PUSH},
    "/api/push/deliveries": {"GET": _PUSH},
    "/api/push/deliveries/{}/replay": {"POST": _PUSH},
}

_PARAMETER = re.compile(r"\{[^}]*\}")


def rule_of(method: str, template: str) -> Rule | None:
    """`template`: a path as its route declares it, with or without a slash at its end. None: nobody may."""
    rules = RULES.get(plain(template), {})
    return rules.get("GET" if method == "HEAD" else method)


def plain(template: str) -> str:
    """The path as it is written in `RULES`."""
    return _PARAMETER.sub("{}", template).rstrip("/") or "/"


def check(rule: Rule | None, who: Principal) -> None:
    """May a principal ask where `rule` holds? Raises: Forbidden."""
    if rule is None:
        raise Forbidden("no rule says who may do this")
    if isinstance(rule, tuple):
        if not who.rights.intersection(rule):
            raise Forbidden("this needs the right " + " or ".join(right.value for right in rule))
    elif rule is Need.PERSON:
        if not who.id.startswith("user:"):
            raise Forbidden("this is for people")
    elif rule is Need.FHIR:
        if not who.scopes:
            raise Forbidden("this needs a scope")
    elif rule is Need.TERMINOLOGY and not who.scopes and Right.TERMINOLOGY_READ not in who.rights:
        raise Forbidden("this needs a scope, or the right terminology.read")
