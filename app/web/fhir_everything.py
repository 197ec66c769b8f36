"""Patient/$everything: the patient, what refers to him as its patient, and what that refers to.

Source: https://hl7.org/fhir/R4/patient-operation-everything.html. Of the types that one may not read nothing is in it.
"""

import base64
import binascii
import json
from collections.abc import Sequence

from sqlalchemy.orm import Session

from app.errors import InvalidInput
from app.store import search as stored
from app.store import versions
from app.store.parameters import MAIN_DATE, PARAMETERS, STORED_TYPES
from app.store.versions import Version
from app.web.fhir_results import CURSOR, MAX_COUNT, link
from app.web.fhir_wire import Json
from app.web.outcome import malformed
from schemas.access import Principal

# `start` and `end` are about the dates of care: a disease or an allergy noted before is still the patient's.
_DATED = frozenset({
    "CarePlan", "Composition", "DiagnosticReport", "DocumentReference", "Encounter", "EpisodeOfCare", "ImagingStudy",
    "Immunization", "MedicationAdministration", "MedicationDispense", "MedicationRequest", "MedicationStatement",
    "Observation", "Procedure", "QuestionnaireResponse", "ServiceRequest", "Specimen",
})  # fmt: skip
_KNOWN = frozenset({"start", "end", "_since", "_type", "_count", CURSOR})


def everything(
    session: Session, who: Principal, patient_id: str, parameters: Sequence[tuple[str, str]], base: str
) -> Json:
    """One page, a Bundle; the page after a cursor goes on in the type, and at the resource, where the last one ended.

    Raises: NotFound, Gone; Refused for a parameter that cannot be read.
    """
    asked = [(name, value) for name, value in parameters if name in _KNOWN]
    stated = dict(asked)
    patient = versions.read(session, "Patient", patient_id, who)
    wanted = _types(stated.get("_type"))
    types = [
        type_
        for type_ in STORED_TYPES
        if "patient" in PARAMETERS[type_] and type_ in wanted and who.may(type_, "r") and who.may(type_, "s")
    ]
    position, cursor = _position(stated.get(CURSOR))
    room = _count(stated.get("_count"))
    found: dict[tuple[str, str], Version] = {}
    if position == 0 and cursor is None and "Patient" in wanted:
        found["Patient", patient_id] = patient
    while room > len(found) and position < len(types):
        page = _page(session, who, types[position], patient_id, stated, room - len(found), cursor)
        for version in page.matches + [one for one in page.included if one.type in wanted]:
            if who.may(version.type, "r"):
                found.setdefault((version.type, version.id), version)
        cursor = page.next
        if cursor is None:
            position += 1
    url = f"{base}/Patient/{patient_id}/$everything"
    links = [link("self", url, asked)]
    if position < len(types):
        rest = [(name, value) for name, value in asked if name != CURSOR]
        links.append(link("next", url, [*rest, (CURSOR, _written(position, cursor))]))
    bundle: Json = {"resourceType": "Bundle", "type": "searchset", "link": links}
    if found:
        bundle["entry"] = [
            {
                "fullUrl": f"{base}/{version.type}/{version.id}",
                "resource": version.served(),
                "search": {"mode": "match" if "patient" in PARAMETERS[version.type] or version is patient else "include"},
            }
            for version in found.values()
        ]
    return bundle


def _page(
    session: Session,
    who: Principal,
    type_: str,
    patient_id: str,
    stated: dict[str, str],
    count: int,
    cursor: str | None,
) -> stored.Page:
    criteria = [("patient", f"Patient/{patient_id}"), ("_count", str(count)), ("_total", "none")]
    if type_ != "Provenance":
        criteria += [("_include", f"{type_}:*"), ("_revinclude", "Provenance:target")]
    if type_ in _DATED:
        date = MAIN_DATE[type_].name
        criteria += [(date, prefix + stated[name]) for name, prefix in (("start", "ge"), ("end", "le")) if name in stated]
    if "_since" in stated:
        criteria.append(("_lastUpdated", "ge" + stated["_since"]))
    if cursor is not None:
        criteria.append((CURSOR, cursor))
    try:
        return stored.search(session, stored.parse(type_, criteria, strict=True), who)
    except InvalidInput:
        raise malformed("start, end and _since must be dates, _cursor one of a next link") from None


def _types(written: str | None) -> frozenset[str]:
    if written is None:
        return frozenset(STORED_TYPES)
    named = frozenset(part.strip() for part in written.split(",") if part.strip())
    if not named or not named <= frozenset(STORED_TYPES):
        raise malformed("_type: must be types that this server stores, with commas between them")
    return named


def _count(written: str | None) -> int:
    if written is None:
        return MAX_COUNT
    if not (written.isascii() and written.isdigit() and len(written) <= 9 and int(written) >= 1):
        raise malformed("_count: must be a number of 1 or more")
    return min(int(written), MAX_COUNT)


def _written(position: int, cursor: str | None) -> str:
    return base64.urlsafe_b64encode(json.dumps([position, cursor]).encode()).decode()


def _position(written: str | None) -> tuple[int, str | None]:
    if written is None:
        return 0, None
    try:
        position, cursor = json.loads(base64.urlsafe_b64decode(written.encode("ascii")))
    except (binascii.Error, ValueError, TypeError):
        raise malformed("_cursor: is none of a next link") from None
    if not isinstance(position, int) or position < 0 or not isinstance(cursor, str | None):
        raise malformed("_cursor: is none of a next link")
    return position, cursor
