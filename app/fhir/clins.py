"""The Bundle in which the national service (電子カルテ情報共有サービス) takes diseases, allergies and laboratory results.

Source of every rule: JP-CLINS 1.10.0, StructureDefinition JP_Bundle_CLINS and its invariants (named R….), and the notes
of the guide on JP_Bundle_CLINS (units of submission, references).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime
from itertools import takewhile
from typing import Any, Literal, get_args

from app.errors import InvalidInput
from app.fhir import codes
from app.fhir.elements import Json, identifier_of, instant, line, objects
from schemas.issue import Issue, IssueType, Severity
from schemas.note import INSURANCE_ID as INSURANCE_FORM
from schemas.spelling import fold

ClinsType = Literal["Condition", "AllergyIntolerance", "Observation"]
CLINS_TYPES: tuple[ClinsType, ...] = get_args(ClinsType)

# The guide recommends the version: without one, the newest at the time of reception is meant.
BUNDLE_PROFILE = f"{codes.CLINS_BUNDLE_PROFILE}|1.10.0"
BUNDLE_IDENTIFIER = codes.CLINS_BUNDLE_ID
YEARS_AFTER_END = 5
"""Diseases and allergies are sent while they last and for so long after their end (guide, units of submission)."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PROFILE = {
    "Patient": f"{codes.ECS_PROFILE}Patient_eCS",
    "Condition": f"{codes.ECS_PROFILE}Condition_eCS",
    "AllergyIntolerance": f"{codes.ECS_PROFILE}AllergyIntolerance_eCS",
    "Observation": f"{codes.ECS_PROFILE}Observation_LabResult_eCS",
    "MedicationRequest": f"{codes.ECS_PROFILE}MedicationRequest_eCS",
}
# R9013, R9019: exactly one of the two, and without a version, where the resource is contained.
_CONTAINED = {
    name: {f"{codes.CORE_PROFILE}{name}", f"{codes.ECS_PROFILE}{name}_eCS"} for name in ("Encounter", "Practitioner")
}
# Guide on JP_Observation_LabResult_eCS: with a result the first three, without one the others.
_OBSERVATION_STATUS = {"preliminary", "final", "corrected", "registered", "cancelled"}
_ENDED = {"resolved", "remission", "inactive"}
_NOT_SENT = {"refuted", "entered-in-error"}
# Systems whose code means one disease or allergen. ICD-10 is a classification: two diseases may share a code of it.
_IDENTITY = (
    *(system for system in codes.DISEASE_ORDER if system != codes.ICD10),
    *sorted(codes.JFAGY),
)
_DUMMY = {"99999999", "0000999", "D9F000000000", "D9N000000000", "D9M000000000"}
_DOUBT = re.compile("の?疑い?|[()]")
_MODIFIERS = frozenset(codes.MODIFIER_EXTENSION.values())


def clins_bundle(
    type_: ClinsType, patient: Json, resources: Sequence[Json], *, identifier_value: str, timestamp: datetime
) -> tuple[Json | None, list[Issue]]:
    """One Bundle (JP_Bundle_CLINS): the Patient, then the resources of `type_` in their order; other types are not looked
    at, since a Bundle carries one type (and FamilyMemberHistory, MedicationRequest and Provenance have no place in any).

    A resource that lacks what the Bundle demands is left out with one Issue that names it and the elements. None when
    none is left, or when the Patient is not complete; the Issues then say why. The arguments stay as they are.
    `identifier_value`: `<10 digits>^<year>^<1 to 36 of A-Za-z0-9->`.

    Evidence (derivation-reference) and our own extensions do not travel: they point at a DocumentReference, which the
    closed slicing of `entry` keeps out; a reference must be contained or lead to the Patient, and the guide does not use
    logical references. Nothing is lost: the id of the resource, which is also the last part of its
    resourceInstance-identifier, is the one under which our store keeps it with its evidence and Provenance.

    Raises: InvalidInput for an identifier of another form (R2152) and for a timestamp without zone.
    """
    if not codes.CLINS_BUNDLE_VALUE.fullmatch(identifier_value):
        raise InvalidInput(
            "Bundle.identifier.value: must be 10 digits^year 2020-2039^1 to 36 letters, digits or hyphens"
        )
    moment = instant(timestamp)
    if missing := patient_faults(patient):
        return None, [_issue(patient, missing, Severity.ERROR)]
    urls = {reference_of(patient): url_of(patient)}
    issues, entries = [], [_entry(patient, urls)]
    for resource in resources:
        if resource.get("resourceType") != type_:
            continue
        wrong = [*faults(resource), *strays(resource, urls)]
        if not wrong and institution(resource) != identifier_value[:10]:
            wrong = ["extension InstitutionNumber: not the institution of Bundle.identifier"]
        if wrong:
            issues.append(_issue(resource, wrong))
            continue
        entry = _entry(resource, urls)
        if entry["fullUrl"] not in {e["fullUrl"] for e in entries}:
            entries.append(entry)
    if len(entries) == 1:
        return None, issues or [Issue(severity=Severity.ERROR, code=IssueType.NOT_FOUND, text=f"no {type_} to send")]
    return {
        "resourceType": "Bundle",
        "id": identifier_of("Bundle", type_, identifier_value),
        "meta": {
            "lastUpdated": moment,
            "profile": [BUNDLE_PROFILE],
            "tag": [{"system": codes.CLINS_TYPE_TAG, "code": type_}],
        },
        "identifier": {"system": BUNDLE_IDENTIFIER, "value": identifier_value},
        "type": "collection",
        "timestamp": moment,
        "entry": entries,
    }, issues


# --- what may be sent ------------------------------------------------------------------------------------------------


def patient_faults(patient: Json) -> list[str]:
    """Elements of a Patient that JP_Patient_eCS demands and that are missing or wrong."""
    insurance = [i.get("value") for i in objects(patient.get("identifier")) if i.get("system") == codes.INSURANCE_MEMBER]
    named = any(name.get("text") and name.get("family") and name.get("given") for name in objects(patient.get("name")))
    tests = {
        "identifier (insurance id)": len(insurance) == 1
        and bool(re.fullmatch(INSURANCE_FORM, str(insurance[0]))),  # R1012/3
        "name": named,
        "gender": bool(patient.get("gender")),
        "birthDate": bool(patient.get("birthDate")),
        "address.text": len(objects(patient.get("address"))) == 1 and bool(objects(patient["address"])[0].get("text")),
    }
    missing = [element for element, there in tests.items() if not there]
    return missing or _profile_faults(patient)


def institution(resource: Json) -> str | None:
    """The ten digits of the institution that a resource names as its own (extension eCS_InstitutionNumber)."""
    for extension in objects(resource.get("extension")):
        if extension.get("url") == codes.INSTITUTION_EXTENSION:
            value = extension.get("valueIdentifier", {}).get("value")
            return value if isinstance(value, str) and codes.INSTITUTION_VALUE.fullmatch(value) else None
    return None


def insurance_id(patient: Json) -> str | None:
    """被保険者個人識別子 of the Patient."""
    values = (i.get("value") for i in objects(patient.get("identifier")) if i.get("system") == codes.INSURANCE_MEMBER)
    return next((value for value in values if isinstance(value, str)), None)


def claims_ecs(resource: Json) -> bool:
    """Does it claim the eCS profile of its type, in any version (R0212, validEntryProfile-…)?"""
    wanted = _PROFILE.get(str(resource.get("resourceType")))
    claimed = resource.get("meta", {}).get("profile", [])
    return wanted is not None and any(str(profile).partition("|")[0] == wanted for profile in claimed)


def faults(resource: Json) -> list[str]:
    """What keeps one Condition, AllergyIntolerance or Observation out of a Bundle, by element; empty: it may be sent."""
    extensions = {extension.get("url") for extension in objects(resource.get("extension"))}
    contained = {
        str(part.get("resourceType"))
        for part in objects(resource.get("contained"))
        for profiles in [part.get("meta", {}).get("profile", [])]
        if len(profiles) == 1 and profiles[0] in _CONTAINED.get(str(part.get("resourceType")), ())
    }
    identifiers = [i for i in objects(resource.get("identifier")) if i.get("system") == codes.RESOURCE_ID]
    found = [f"verificationStatus: {status} is not sent" for status in sorted(verification(resource) & _NOT_SENT)]
    found += [] if found else _profile_faults(resource)
    tests: dict[str, bool] = {
        "meta.lastUpdated": "lastUpdated" in resource.get("meta", {}),
        "identifier (resourceInstance-identifier)": len(identifiers) == 1,
        "extension InstitutionNumber": institution(resource) is not None,  # R9011, R9012
    }
    kind = resource.get("resourceType")
    if kind in ("Condition", "Observation"):
        tests |= {
            "extension Department": codes.DEPARTMENT_EXTENSION in extensions,  # R9014C, R9014O
            "contained Encounter": "Encounter" in contained,  # R9013C, R9013O
            "encounter": "encounter" in resource,  # R9016O; for Condition the guide's text
        }
    if kind == "Condition":
        tests["onsetDateTime"] = "onsetDateTime" in resource  # R9013C
    if kind in ("Condition", "AllergyIntolerance"):
        tests["clinicalStatus"] = bool(clinical(resource))  # guide: unless entered in error
    if kind == "Observation":
        systems = {coding.get("system") for coding in _codings(resource)}
        flagged = any(tag.get("system") == codes.CLINS_FLAG for tag in objects(resource.get("meta", {}).get("tag")))
        tests |= {
            "contained Practitioner": "Practitioner" in contained,  # R9019O
            "performer": bool(resource.get("performer")),  # R9017O
            "hasMember may not be there": "hasMember" not in resource,  # R6081
            "code.coding (facility's own code)": codes.LOCAL_LAB in systems,  # R6021
            "meta.tag LTS is for infections alone": not flagged or bool(systems & codes.INFECTION_LAB),  # R6031
            "status is not one that is sent": resource.get("status") in _OBSERVATION_STATUS,
            "effectiveDateTime": "effectiveDateTime" in resource,
            "specimen": "specimen" in resource,
        }
    wrong = (what for what, holds in tests.items() if not holds)
    return found + [what if " is " in what or " may " in what else f"{what} is missing" for what in wrong]


def strays(resource: Json, urls: Mapping[str, str]) -> list[str]:
    """References that lead neither to a member (`urls`: Type/id -> fullUrl) nor to a contained resource; those inside
    extensions that do not travel do not count."""
    inside = {f"#{part.get('id')}" for part in objects(resource.get("contained"))}
    kept = outward(resource, urls, travels)
    known = inside | set(urls.values()) | {"#"}
    return sorted({f"{where}: leads out of the Bundle" for where, to in _references(kept, "") if to not in known})


def _profile_faults(resource: Json) -> list[str]:
    return [] if claims_ecs(resource) else ["meta.profile (the eCS profile is not claimed)"]


# --- one report of many notes ----------------------------------------------------------------------------------------


def merged(type_: ClinsType, notes: Sequence[Sequence[Json]], *, today: date) -> tuple[list[Json], list[Issue]]:
    """What one patient's notes say together of diseases or allergies: each once. `notes`: the resources of each, the
    oldest note first. The guide's unit of submission is all that is current, and what ended within five years.

    The same thing is the same code (and modifiers) of a system that names things, or the same text where only dummy codes
    stand. The newest note that speaks of it decides:
    - denied there: nothing of it is sent, and each statement that it overrules gets an Issue. A note that both states and
      denies an allergy does not unsay it: what is read wrongly must not hide it, so it is sent, and a warning tells;
    - else its resource is sent, one for each clinical status. Nothing is copied between resources. Where that resource is
      not fit to be sent (no onset, say), an earlier one that is fit stands for it, whole, if every statement since has the
      same statuses: a visit that does not repeat an onset does not unsay it.
    What ended longer ago, or at a time that nothing tells, is left out, with a warning where an earlier note had it as
    lasting, and for every allergy. Every Issue is about one resource left out.
    """
    groups: dict[tuple[str, ...], list[tuple[int, Json]]] = {}
    chosen: list[Json] = []
    issues: list[Issue] = []
    for position, resources in enumerate(notes):
        for resource in resources:
            if resource.get("resourceType") != type_:
                continue
            if "entered-in-error" in verification(resource):  # says nothing of the thing itself
                issues.append(_issue(resource, faults(resource)[:1], Severity.INFORMATION))
            else:
                groups.setdefault(_key(resource), []).append((position, resource))
    for group in groups.values():
        kept, left = _decide(group)
        issues += left
        for resource in kept:
            if (why := _too_old(resource, today)) is None:
                chosen.append(resource)
            else:
                lasted = any(not clinical(r) & _ENDED and "refuted" not in verification(r) for _, r in group)
                unsafe = lasted or type_ == "AllergyIntolerance"
                issues.append(_issue(resource, [why], Severity.WARNING if unsafe else Severity.INFORMATION))
    return chosen, issues


def _decide(group: list[tuple[int, Json]]) -> tuple[list[Json], list[Issue]]:
    """What is sent of one disease or allergen, and an Issue for each statement of it that is overruled."""
    newest = max(position for position, _ in group)
    said = [r for position, r in group if position == newest]
    before = [r for position, r in reversed(group) if position < newest]
    denials = [r for r in said if "refuted" in verification(r)]
    stated = [r for r in said if "refuted" not in verification(r)]
    if denials and any(r.get("resourceType") == "AllergyIntolerance" and not clinical(r) & _ENDED for r in stated):
        issues = [_issue(r, [*faults(r)[:1], "the same note states the allergy, which is sent"]) for r in denials]
    elif denials:
        # That it is not there now does not say that it never was: what the same note calls past stays.
        overruled = [r for r in stated if not clinical(r) & _ENDED]
        overruled += [r for r in before if "refuted" not in verification(r)]
        stated = [r for r in stated if clinical(r) & _ENDED]
        why = f"denied by {reference_of(denials[0])}, which is "
        issues = [_issue(r, faults(r)[:1], Severity.INFORMATION) for r in denials]
        issues += [_issue(r, [why + ("newer" if r in before else "of the same note")]) for r in overruled]
    else:
        issues = []
    kept = []
    for status in dict.fromkeys(frozenset(clinical(r)) for r in stated):
        # The best of one note: fit to be sent, then confirmed rather than suspected, then the first.
        best = min(
            (r for r in stated if clinical(r) == status),
            key=lambda r: (bool(faults(r)), "confirmed" not in verification(r)),
        )
        fit = next((r for r in _saying_the_same(best, before) if not faults(r)), None)
        kept.append(fit if faults(best) and fit else best)
    return kept, issues


def _saying_the_same(resource: Json, before: Sequence[Json]) -> Iterator[Json]:
    """Of the statements before it, the newest first, those with its statuses, up to the first that has others."""
    return takewhile(lambda earlier: _statuses(earlier) == _statuses(resource), before)


def _key(resource: Json) -> tuple[str, ...]:
    """What makes two statements the same thing; see `merged`."""
    written = fold(line(str(resource.get("code", {}).get("text", ""))))
    known = {str(c.get("system")): c for c in _codings(resource) if c.get("code") not in _DUMMY}
    system = next((s for s in _IDENTITY if s in known), None)
    if system is None:
        return "text", written or str(resource.get("id"))
    modifiers = [
        (str(extension["url"]), coding)
        for extension in objects(resource.get("code", {}).get("extension"))
        if extension.get("url") in _MODIFIERS
        for coding in objects(extension.get("valueCodeableConcept", {}).get("coding"))[:1]
    ]
    # A modifier that no table knows stands in the text alone: 急性肺炎 is not 肺炎, though its code is.
    name = fold(str(known[system].get("display", "")))
    rest = written
    for part in (name, *(fold(str(coding.get("display", ""))) for _, coding in modifiers)):
        rest = rest.replace(part, "", 1) if part else rest
    # 疑い is no modifier here but verificationStatus.
    unknown = _DOUBT.sub("", rest) if name and name in written else ""
    return (
        system,
        str(known[system]["code"]),
        *sorted(f"{url} {coding.get('code')}" for url, coding in modifiers),
        unknown,
    )


def _too_old(resource: Json, today: date) -> str | None:
    if not clinical(resource) & _ENDED:
        return None
    limit = f"{today.year - YEARS_AFTER_END:04}-{today:%m-%d}"
    end = resource.get("abatementDateTime") or resource.get("lastOccurrence")
    began = resource.get("onsetDateTime")
    # What began within the years ended within them, whenever that was.
    if any(isinstance(day, str) and _last_day(day) >= limit for day in (end, began)):
        return None
    if end:
        return f"ended more than {YEARS_AFTER_END} years ago"
    return f"ended, and nothing tells whether within {YEARS_AFTER_END} years (abatementDateTime)"


def _last_day(day: str) -> str:
    """The last day that a partial date may mean, as text that compares."""
    return (day + "-12-31"[len(day) - 4 :])[:10] if len(day) < 10 else day[:10]


# --- resources as they travel ----------------------------------------------------------------------------------------


def travels(extension_url: str) -> bool:
    """May an extension leave in a Bundle of the service: not evidence, and none of ours."""
    return extension_url != codes.EVIDENCE and not extension_url.startswith(codes.LOCAL)


def outward(node: Any, urls: Mapping[str, str], keep: Callable[[str], bool]) -> Any:
    """A copy with references to members turned into their fullUrl, and without the extensions that `keep` refuses;
    what is empty without them goes too."""
    if isinstance(node, list):
        copies = [outward(item, urls, keep) for item in node]
        return [copy for copy, item in zip(copies, node, strict=True) if copy not in ({}, []) or item in ({}, [], None)]
    if not isinstance(node, dict):
        return node
    made = {}
    for key, value in node.items():
        if key == "extension" and isinstance(value, list):
            value = [e for e in value if not isinstance(e, dict) or keep(str(e.get("url")))]
        elif key == "reference" and isinstance(value, str):
            value = urls.get(value, value)
        if (copy := outward(value, urls, keep)) not in ({}, []):
            made[key] = copy
    return made


def reference_of(resource: Json) -> str:
    return f"{resource.get('resourceType')}/{resource.get('id')}"


def url_of(resource: Json) -> str:
    """`urn:uuid:` of its id, or of a UUID made from type and id where the id is none."""
    own = str(resource.get("id"))
    return f"urn:uuid:{own if _UUID.fullmatch(own) else identifier_of(reference_of(resource))}"


def _entry(resource: Json, urls: Mapping[str, str]) -> Json:
    return {"fullUrl": url_of(resource), "resource": outward(resource, urls, travels)}


def _issue(resource: Json, what: Sequence[str], severity: Severity = Severity.WARNING) -> Issue:
    text = f"{reference_of(resource)} is not sent: {'; '.join(what)}"
    return Issue(
        severity=severity, code=IssueType.REQUIRED if severity is Severity.ERROR else IssueType.BUSINESS_RULE, text=text
    )


# --- reading ---------------------------------------------------------------------------------------------------------


def clinical(resource: Json) -> set[str]:
    """Codes of clinicalStatus."""
    return {str(coding.get("code")) for coding in objects(resource.get("clinicalStatus", {}).get("coding"))}


def verification(resource: Json) -> set[str]:
    """Codes of verificationStatus."""
    return {str(coding.get("code")) for coding in objects(resource.get("verificationStatus", {}).get("coding"))}


def is_infection(resource: Json) -> bool:
    """Is an Observation one of the infection items? The guide tells them by the system of their code."""
    return any(coding.get("system") in codes.INFECTION_LAB for coding in _codings(resource))


def _statuses(resource: Json) -> tuple[set[str], set[str]]:
    return clinical(resource), verification(resource)


def _codings(resource: Json) -> list[Json]:
    return objects(resource.get("code", {}).get("coding"))


def _references(node: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        if isinstance(to := node.get("reference"), str):
            yield path, to
        for key, value in node.items():
            yield from _references(value, f"{path}.{key}" if path else key)
    elif isinstance(node, list):
        for item in node:
            yield from _references(item, path)
