"""Transaction and batch Bundles: many interactions in one request.

Source: https://hl7.org/fhir/R4/http.html#transaction (trules, brules, transaction-response). A transaction is one
transaction of the database: all of it happens, or nothing. Each entry of a batch is one of its own.

A DocumentReference cannot be created here: a note that is to be converted is sent by itself.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

from sqlalchemy.orm import Session

from app.db import Database
from app.errors import HyojunError, InvalidInput, Stale
from app.fhir.transaction import (
    MAX_ENTRIES,
    ORDER,
    Entry,
    conditional,
    entry_of,
    linked,
    placeholders,
    references,
    unresolved,
)
from app.store import index, versions
from app.store.versions import Version
from app.web import fhir_interactions as interactions
from app.web import fhir_results as results
from app.web.fhir_interactions import Asker, Done, allow, the_one
from app.web.fhir_wire import Json, Return, etag, not_modified, version_of, version_path
from app.web.outcome import Refused, malformed, outcome_json, status_of
from schemas.access import Principal
from schemas.issue import Issue, IssueType, Severity

Answers = dict[int, Json]
"""Entries of the answer, by the position of the request's."""
_WRITES = ("POST", "PUT", "PATCH", "DELETE")


def answer_bundle(
    database: Database,
    asker: Callable[[Session, Principal], Asker],
    who: Principal,
    bundle: Json,
    base: str,
    returned: Return,
) -> Json:
    """The answer to a Bundle posted to the base, its entries in the order of the request's.

    Raises: Refused; for a transaction all that its entries raise, with the entry's place before the reason.
    """
    entries = bundle.get("entry", [])
    if bundle.get("resourceType") != "Bundle" or bundle.get("type") not in ("transaction", "batch"):
        raise malformed("the body must be a Bundle of type transaction or batch")
    if not isinstance(entries, list):
        raise malformed("Bundle.entry: must be a list")
    if len(entries) > MAX_ENTRIES:
        raise Refused(413, f"the Bundle has {len(entries):,} entries; at most {MAX_ENTRIES:,} are taken")
    if bundle["type"] == "batch":
        answered = [
            _alone(database, asker, who, position, written, _full_urls(entries), base, returned)
            for position, written in enumerate(entries)
        ]
    else:
        read = []
        for position, written in enumerate(entries):
            with _placed(f"Bundle.entry[{position}]"):
                read.append(_entry(position, written))
        with database.session_scope() as session:
            answers = _Transaction(asker(session, who), read, base, returned).carried_out()
        answered = [answers[position] for position in range(len(read))]
    made: Json = {"resourceType": "Bundle", "id": str(uuid4()), "type": f"{bundle['type']}-response"}
    return {**made, "entry": answered} if answered else made


def _entry(position: int, written: Any) -> Entry:
    """Raises: Refused."""
    try:
        entry = entry_of(position, written)
    except InvalidInput as error:
        raise malformed(str(error)) from None
    if (entry.method, entry.type) == ("POST", "DocumentReference"):
        what = "a note is sent by itself: POST /fhir/DocumentReference, or DocumentReference/$standardize"
        raise Refused(422, what, code=IssueType.NOT_SUPPORTED)
    return entry


def _full_urls(entries: Sequence[Any]) -> frozenset[str]:
    urls = (entry.get("fullUrl") for entry in entries if isinstance(entry, dict))
    return frozenset(url for url in urls if isinstance(url, str) and url.startswith("urn:"))


@contextmanager
def _placed(path: str) -> Iterator[None]:
    """Says of every refusal which entry it is about."""
    try:
        yield
    except Refused as error:
        issues = [issue.model_copy(update={"text": f"{path}: {issue.text}"}) for issue in error.issues]
        raise Refused(error.status, f"{path}: {error.detail}", issues=issues, headers=error.headers) from None
    except HyojunError as error:
        status = status_of(error)
        if status >= 500:
            raise
        raise Refused(status, f"{path}: {error}", code=error.issue_type) from None


# --- batch ------------------------------------------------------------------------------------------------------------


def _alone(
    database: Database,
    asker: Callable[[Session, Principal], Asker],
    who: Principal,
    position: int,
    written: Any,
    others: frozenset[str],
    base: str,
    returned: Return,
) -> Json:
    try:
        entry = _entry(position, written)
        own = {entry.full_url} if entry.full_url else set()
        if entry.resource is not None and others.difference(own).intersection(references(entry.resource)):
            raise malformed("an entry of a batch cannot refer to another one; a transaction can")
        with database.session_scope() as session:
            return _carried_out(asker(session, who), entry, base, returned)
    except Refused as error:
        status, issues = error.status, error.issues
    except HyojunError as error:
        status = status_of(error)
        issues = (Issue(severity=Severity.ERROR, code=error.issue_type, text=str(error)),)
    return {"response": {"status": _status(status), "outcome": outcome_json(issues)}}


def _carried_out(asker: Asker, entry: Entry, base: str, returned: Return) -> Json:
    """One entry by itself."""
    if entry.method in ("GET", "HEAD"):
        return _read(asker, entry, base)
    type_, criteria, match = entry.type, entry.criteria, version_of(entry.if_match)
    if entry.method == "DELETE":
        if entry.id is None:
            return _deleted(interactions.remove_by(asker, type_, criteria or ""))
        return _deleted(interactions.remove(asker, type_, entry.id, if_match=match))
    assert entry.resource is not None
    if entry.method == "POST":
        done = interactions.create(asker, type_, entry.resource, if_none_exist=entry.if_none_exist)
    elif entry.method == "PATCH":
        id_ = entry.id or _found(asker, entry)
        media, change = interactions.patch_of_entry(entry.resource)
        done = interactions.patch(asker, type_, id_, media, change, if_match=match)
    elif entry.id is None:
        done = interactions.update_by(asker, type_, criteria or "", entry.resource, if_match=match)
    else:
        done = interactions.update(asker, type_, entry.id, entry.resource, if_match=match)
    return _changed(done, base, returned)


def _found(asker: Asker, entry: Entry) -> str:
    found = the_one(asker, entry.type, entry.criteria or "")
    if found is None:
        raise Refused(404, "the condition finds no resource")
    return found


# --- transaction ------------------------------------------------------------------------------------------------------


class _Transaction:
    """The entries of one transaction, carried out in the order of FHIR: deletes, creates, updates, reads; what refers to
    something by a condition is written last, when that is there."""

    def __init__(self, asker: Asker, entries: Sequence[Entry], base: str, returned: Return) -> None:
        self.asker, self.base, self.returned = asker, base, returned
        self.entries = sorted(entries, key=lambda entry: ORDER[entry.method])
        self.answers: Answers = {}
        self.targets: dict[int, tuple[str, str]] = {}
        """Type and id that an entry creates, changes or deletes, by its position."""

    def carried_out(self) -> Answers:
        self._check_full_urls()
        self._lock()
        for entry in self._of("DELETE"):
            with _placed(entry.path):
                self._delete(entry)
        for entry in self._of("POST", "PUT", "PATCH"):
            with _placed(entry.path):
                self._resolve(entry)
        self._check_identities()
        self._write()
        for entry in self._of("GET", "HEAD"):
            with _placed(entry.path):
                self.answers[entry.position] = _read(self.asker, entry, self.base)
        return self.answers

    def _of(self, *methods: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.method in methods]

    def _check_full_urls(self) -> None:
        seen: set[str] = set()
        for entry in self._of(*_WRITES):
            if entry.full_url is None:
                continue
            if entry.full_url in seen:
                raise malformed(f"{entry.path}.fullUrl: stands twice in the Bundle")
            seen.add(entry.full_url)

    def _lock(self) -> None:
        """What the entries name, all at once, so that two transactions do not wait for each other half way."""
        wanted = []
        for entry in self._of(*_WRITES):
            condition = entry.if_none_exist if entry.method == "POST" else entry.criteria
            if entry.id is not None:
                wanted.append((entry.type, entry.id))
            elif condition is not None:
                wanted.append(interactions.condition_key(entry.type, condition))
        if wanted:
            index.lock(self.asker.session, wanted)

    def _delete(self, entry: Entry) -> None:
        asker, type_ = self.asker, entry.type
        allow(asker.who, type_, "d")
        id_ = entry.id or the_one(asker, type_, entry.criteria or "")
        if id_ is None:
            self.answers[entry.position] = _deleted(Done(204, None))
            return
        self.targets[entry.position] = (type_, id_)
        done = interactions.remove(asker, type_, id_, if_match=version_of(entry.if_match))
        self.answers[entry.position] = _deleted(done)

    def _resolve(self, entry: Entry) -> None:
        """Which resource the entry will write; a create whose condition finds one is done with that."""
        asker, type_ = self.asker, entry.type
        assert entry.resource is not None
        if entry.method == "POST":
            allow(asker.who, type_, "c")
            found = the_one(asker, type_, entry.if_none_exist) if entry.if_none_exist is not None else None
            self.targets[entry.position] = (type_, found or str(uuid4()))
            if found is not None:
                there = Done(200, versions.read(asker.session, type_, found, asker.who))
                self.answers[entry.position] = _changed(there, self.base, self.returned)
            return
        allow(asker.who, type_, "u")
        if entry.id is not None:
            self.targets[entry.position] = (type_, entry.id)
        elif entry.method == "PUT":
            id_ = interactions.target_of_update(entry.resource, the_one(asker, type_, entry.criteria or ""))
            self.targets[entry.position] = (type_, id_)
        else:
            self.targets[entry.position] = (type_, _found(asker, entry))

    def _check_identities(self) -> None:
        seen: set[tuple[str, str]] = set()
        conditions: set[tuple[str, str]] = set()
        for entry in self._of(*_WRITES):
            target = self.targets.get(entry.position)
            if target in seen:
                raise malformed(f"{entry.path}: another entry is about the same resource")
            if target is not None:
                seen.add(target)
            if entry.if_none_exist is not None or (entry.criteria is not None and entry.method == "PUT"):
                condition = (entry.type, entry.if_none_exist or entry.criteria or "")
                if condition in conditions:
                    raise malformed(f"{entry.path}: another entry has the same condition")
                conditions.add(condition)

    def _write(self) -> None:
        identities = {position: f"{type_}/{id_}" for position, (type_, id_) in self.targets.items()}
        urls = placeholders(self._of("POST", "PUT", "PATCH"), identities)
        waiting: dict[int, tuple[Entry, Json]] = {}
        for entry in self._of("POST", "PUT", "PATCH"):
            if entry.position in self.answers:
                continue
            assert entry.resource is not None
            resource = entry.resource if entry.method == "PATCH" else linked(entry.resource, urls)
            if unresolved(resource):
                raise malformed(f"{entry.path}.resource: refers to an entry that the Bundle does not have")
            waiting[entry.position] = (entry, resource)
        self._write_all(waiting)

    def _write_all(self, waiting: dict[int, tuple[Entry, Json]]) -> None:
        known: dict[str, str] = {}
        while waiting:
            ready = {
                position: (entry, resource)
                for position, (entry, resource) in waiting.items()
                if all(reference in known for reference in _conditions(resource))
            }
            if not ready:
                # What stands in nobody's way is written; now everything that a condition may find is there, but for
                # what itself waits for one.
                known |= self._resolved(waiting)
                continue
            with index.together(self.asker.session):
                for position, (entry, resource) in ready.items():
                    with _placed(entry.path):
                        self._write_one(entry, linked(resource, known))
                    del waiting[position]
        for reference, stored in known.items():
            if self._match(reference) != stored:  # an entry written later meets the condition too, or ends it
                raise Stale("a condition in a reference does not find the same one resource any more")

    def _resolved(self, waiting: Mapping[int, tuple[Entry, Json]]) -> dict[str, str]:
        found: dict[str, str] = {}
        for entry, resource in waiting.values():
            for reference in _conditions(resource):
                with _placed(f"{entry.path}.resource"):
                    match = self._match(reference)
                if match is not None:
                    found[reference] = match
        open_ = [
            entry
            for entry, resource in waiting.values()
            if not all(reference in found for reference in _conditions(resource))
        ]
        if len(open_) == len(waiting):
            raise Refused(412, f"{open_[0].path}.resource: a condition in a reference finds no resource")
        return found

    def _match(self, reference: str) -> str | None:
        condition = conditional(reference)
        assert condition is not None
        found = the_one(self.asker, *condition)
        return None if found is None else f"{condition[0]}/{found}"

    def _write_one(self, entry: Entry, resource: Json) -> None:
        type_, id_ = self.targets[entry.position]
        match = version_of(entry.if_match)
        if entry.method == "POST":
            done = interactions.create(self.asker, type_, resource, id_=id_)
        elif entry.method == "PATCH":
            media, change = interactions.patch_of_entry(resource)
            done = interactions.patch(self.asker, type_, id_, media, change, if_match=match)
        else:
            resource = resource if entry.id is not None else {**resource, "id": id_}
            done = interactions.update(self.asker, type_, id_, resource, if_match=match)
        self.answers[entry.position] = _changed(done, self.base, self.returned)


def _conditions(resource: Json) -> list[str]:
    return [reference for reference in references(resource) if conditional(reference)]


# --- entries of the answer --------------------------------------------------------------------------------------------


def _read(asker: Asker, entry: Entry, base: str) -> Json:
    session, who, type_ = asker.session, asker.who, entry.type
    parameters = _query(entry.criteria or "")
    if entry.history and entry.version is None:
        allow(who, type_, "r")
        return _shown(results.history(session, who, type_, entry.id, parameters, base))
    if entry.id is None:
        allow(who, type_, "s")
        return _shown(results.searchset(session, who, type_, parameters, base))
    allow(who, type_, "r")
    if entry.version is not None:
        return _version(versions.read_version(session, type_, entry.id, entry.version, who), base)
    version = versions.read(session, type_, entry.id, who)
    if not_modified(version, entry.if_none_match, entry.if_modified_since):
        return {"response": {"status": _status(304), **_told(version)}}
    return _version(version, base)


def _query(written: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(written, keep_blank_values=True, errors="strict", max_num_fields=200)
    except ValueError:
        raise malformed("request.url: its query is not UTF-8, or has more than 200 parameters") from None


def _shown(bundle: Json) -> Json:
    return {"resource": bundle, "response": {"status": _status(200)}}


def _version(version: Version, base: str) -> Json:
    answer = {"status": _status(200), **_told(version)}
    return {"fullUrl": f"{base}/{version.type}/{version.id}", "resource": version.served(), "response": answer}


def _changed(done: Done, base: str, returned: Return) -> Json:
    version = done.version
    assert version is not None
    response = {"status": _status(done.status), "location": f"{base}/{version_path(version)}", **_told(version)}
    entry: Json = {"fullUrl": f"{base}/{version.type}/{version.id}"}
    if returned is Return.OUTCOME:
        text = f"{version_path(version)}: stored"
        issue = Issue(severity=Severity.INFORMATION, code=IssueType.INFORMATIONAL, text=text)
        response["outcome"] = outcome_json([issue])
    elif returned is Return.REPRESENTATION:
        entry["resource"] = version.served()
    return {**entry, "response": response}


def _deleted(done: Done) -> Json:
    return {"response": {"status": _status(204), **({"etag": etag(done.version)} if done.version else {})}}


def _told(version: Version) -> Json:
    return {"etag": etag(version), "lastModified": version.last_updated.isoformat(timespec="milliseconds")}


def _status(status: int) -> str:
    return f"{status} {HTTPStatus(status).phrase}"
