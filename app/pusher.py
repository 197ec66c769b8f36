"""Sends what waits in the outbox: one connection to each destination, one delivery after the other.

A transaction holds the claim, another reads what is to be sent, and a third what became of it; while the network is used none
is open. After a crash between sending and the last one the delivery is sent again: a FHIR server finds every resource there
already, a webhook's receiver knows the delivery by its id.

    the answer                                   the delivery                the destination
    2xx                                          sent                        well
    none, and nothing had gone out               waits                       held: nothing is tried for a while
    401 403 404 405 407 429 502 503 504, 3xx     waits                       held
    none in time, 408 409 423 424 425, other 5xx again after a pause         as it is
    other 4xx, errors within a 2xx Bundle        dead                        well
    anything but 2xx from a Subscription         waits                       held, after all attempts in error
"""

import logging
import ssl
import threading
import time
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app import audit, outbox, subscriptions
from app.db import Database, json_dumps
from app.errors import Conflict, InvalidInput, Unavailable
from app.outbox import Claimed
from app.outgoing import Answer, Line, Secrets, tls
from app.parcels import (
    FHIR_JSON,
    Parcel,
    Target,
    failed_entries,
    items,
    outcome_of,
    parcel_of,
    resource_in,
    signed,
    target_of,
)
from app.push_login import Login
from models import PushDestination
from schemas.push import DestinationKind, PushPolicy
from schemas.review import AuditAction, AuditOutcome

log = logging.getLogger(__name__)

MAX_LANES = 16
"""Destinations that one process sends to at the same time."""
AUTHOR = "system:push"
"""Who sends, in audit events; their subject is the destination."""
_OUTCOMES = {"sent": AuditOutcome.SUCCESS, "refused": AuditOutcome.REFUSED}
_AWAY = frozenset({401, 403, 404, 405, 407, 429, 502, 503, 504})
_AGAIN = frozenset({408, 409, 423, 424, 425})


class Lane:
    """The way to one destination, for one thread."""

    def __init__(self, database: Database, destination_id: UUID, secrets: Secrets, policy: PushPolicy) -> None:
        self._database, self._id, self._secrets, self._policy = database, destination_id, secrets, policy
        self._target: Target | None = None
        self._line: Line | None = None
        self._login: Login | None = None

    def close(self) -> None:
        if self._line is not None:
            self._line.close()
        self._target = self._line = self._login = None

    def step(self) -> bool:
        """Sends the delivery that is due first. False: none is due."""
        with self._database.session_scope() as session:
            claimed = outbox.claim(session, self._id, self._policy)
            row = session.get(PushDestination, self._id) if claimed else None
            target = target_of(row) if row else None
        if claimed is None or target is None:
            return False
        try:
            self._deliver(claimed, target)
        except (Conflict, InvalidInput) as error:
            # What is stored cannot be sent as it is; trying again would not change it.
            self._settled(claimed, "refused", str(error))
        except Unavailable as error:
            self._settled(claimed, "held", str(error))
        except Exception as error:
            # A fault of ours: counted, so that it cannot come back for ever.
            log.exception("sending failed", extra={"delivery_id": claimed.id})
            self._settled(claimed, "later", f"an error of this program: {type(error).__name__}")
        return True

    def _deliver(self, claimed: Claimed, target: Target) -> None:
        deadline = time.monotonic() + self._policy.timeout_seconds
        with self._database.session_scope() as session:
            parcel = parcel_of(session, claimed, target)
        if not parcel.requests:
            with self._database.session_scope() as session:
                outbox.skipped(session, claimed, "nothing of it is for this destination")
            return
        line, login = self._connected(target)
        headers = login.headers(deadline)
        answer = Answer()
        for request in parcel.requests:
            answer = line.send(
                request.method, request.url, [*request.headers, *headers], request.body, deadline=deadline
            )
            if not answer.ok:
                break
        if answer.status == 401:
            login.forget()
        self._settle(claimed, target, parcel, answer)

    def _connected(self, target: Target) -> tuple[Line, Login]:
        """The open connection, or a new one where the destination was changed."""
        if self._line is None or self._login is None or target != self._target:
            self.close()
            context: ssl.SSLContext | None = None
            if target.url.startswith("https:"):
                context = tls(self._secrets, *target.files)
            self._line = Line(context)
            self._login = Login(target.identity, self._secrets, self._line)
            self._target = target
        return self._line, self._login

    def _settle(self, claimed: Claimed, target: Target, parcel: Parcel, answer: Answer) -> None:
        reason = answer.fault or f"HTTP {answer.status}"
        status, outcome = answer.status, outcome_of(answer.body)
        if answer.ok and not failed_entries(answer.body):
            self._settled(claimed, "sent", parcel=parcel, answer=answer)
        elif target.kind is DestinationKind.SUBSCRIPTION or (status is None and not answer.begun):
            self._settled(claimed, "held", reason, parcel=parcel, answer=answer)
        elif status in _AWAY or (status is not None and 300 <= status < 400):
            what = f"{reason}, a redirect, which is not followed" if status and status < 400 else reason
            self._settled(claimed, "held", what, parcel=parcel, answer=answer)
        elif status is None or status in _AGAIN or status >= 500:
            self._settled(claimed, "later", reason, parcel=parcel, answer=answer, outcome=outcome)
        else:
            what = "the answer's entries hold errors" if answer.ok else reason
            self._settled(claimed, "refused", what, parcel=parcel, answer=answer, outcome=outcome)

    def _settled(
        self, claimed: Claimed, how: str, reason: str = "", *, parcel: Parcel | None = None,
        answer: Answer | None = None, outcome: Any = None,
    ) -> None:  # fmt: skip
        """What became of it, and who was told what, in one transaction."""
        status, seconds = (answer.status, answer.retry_after) if answer else (None, None)
        with self._database.session_scope() as session:
            if parcel and answer and (answer.begun or answer.status is not None):
                _record(session, claimed, parcel, how)
            if how == "sent":
                outbox.sent(session, claimed, status or 0, parcel.sha256 if parcel else None)
            elif how == "refused":
                outbox.refused(session, claimed, reason, status, outcome)
            elif how == "held":
                outbox.held(session, claimed, reason, self._policy, status=status, seconds=seconds)
            else:
                outbox.later(session, claimed, reason, self._policy, status=status, outcome=outcome, seconds=seconds)
        if how == "sent":
            log.info("delivered", extra={"delivery_id": claimed.id, "status": status})
        else:
            log.warning("not delivered (%s): %s", how, reason, extra={"delivery_id": claimed.id, "status": status})


def _record(session: Session, claimed: Claimed, parcel: Parcel, how: str) -> None:
    """Patients' data left this house, whether or not it was taken."""
    if parcel.members:
        audit.record_access(
            session, AUTHOR, AuditAction.PUSH, ids=[f"{type_}/{id_}" for type_, id_ in parcel.members],
            patients=[id_ for type_, id_ in parcel.members if type_ == "Patient"], note_id=claimed.note_id,
            subject=claimed.destination_id, outcome=_OUTCOMES.get(how, AuditOutcome.FAILED),
        )  # fmt: skip


# --- the loop -----------------------------------------------------------------------------------------------------------


class Sender:
    """A thread that looks at the outbox until it is stopped, and one more for each destination that something is due for. It
    outlives whatever they raise. Any number of processes may run one."""

    def __init__(self, database: Database, secrets: Secrets, policy: PushPolicy) -> None:
        self._database, self._secrets, self._policy = database, secrets, policy
        self._end = threading.Event()
        self._lanes: dict[UUID, threading.Thread] = {}
        self._thread = threading.Thread(target=self.run, name="sender", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Lets deliveries that are under way end, for some seconds: one that does not is sent again by another sender."""
        self._end.set()
        for thread in [self._thread, *self._lanes.values()]:
            if thread.is_alive():
                thread.join(timeout=10)

    def run(self) -> None:
        """The loop itself; returns after `stop`."""
        pause = self._policy.interval_seconds
        while not self._end.wait(pause):
            try:
                self.tick()
                pause = self._policy.interval_seconds
            except Exception:
                pause = min(max(pause, 0.1) * 2, 30.0)
                log.warning("sending failed", exc_info=True, extra={"retry_seconds": pause})

    def tick(self) -> None:
        """Starts a lane for each destination that something is due for and that has none."""
        with self._database.session_scope() as session:
            outbox.end_subscriptions(session)
            due = outbox.due(session)
        self._lanes = {id_: thread for id_, thread in self._lanes.items() if thread.is_alive()}
        for id_ in due:
            if id_ not in self._lanes and len(self._lanes) < MAX_LANES:
                lane = Lane(self._database, id_, self._secrets, self._policy)
                self._lanes[id_] = threading.Thread(target=self._work, args=[lane], name="lane", daemon=True)
                self._lanes[id_].start()

    def _work(self, lane: Lane) -> None:
        try:
            while not self._end.is_set() and lane.step():
                pass
        except Exception:
            log.warning("sending failed", exc_info=True)
        finally:
            lane.close()


def send_all(database: Database, secrets: Secrets, policy: PushPolicy, destination_id: UUID | None = None) -> int:
    """Sends what is due now, in this thread, and ends; how many deliveries were tried."""
    tried = 0
    with database.session_scope() as session:
        outbox.end_subscriptions(session)
        due = [id_ for id_ in outbox.due(session) if destination_id in (None, id_)]
    for id_ in due:
        lane = Lane(database, id_, secrets, policy)
        try:
            while lane.step():
                tried += 1
        finally:
            lane.close()
    return tried


def probe(row: PushDestination, secrets: Secrets, policy: PushPolicy) -> str:
    """Asks a destination whether it answers, with our login and nothing of a patient: a FHIR server for its
    CapabilityStatement, a webhook by a signed `ping`, a Subscription's endpoint by an empty notification.

    Raises: Unavailable with the reason.
    """
    target, deadline = target_of(row), time.monotonic() + policy.timeout_seconds
    line = Line(tls(secrets, *target.files) if target.url.startswith("https:") else None)
    try:
        headers = Login(target.identity, secrets, line).headers(deadline)
        if target.kind is DestinationKind.FHIR:
            accept = [("accept", FHIR_JSON), *headers]
            answer = line.send("GET", f"{target.url}/metadata", accept, deadline=deadline)
        elif target.kind is DestinationKind.WEBHOOK:
            body = json_dumps({"event": "ping"}).encode()
            answer = line.send("POST", target.url, signed(target.secret or "", "ping", body), body, deadline=deadline)
        else:
            answer = line.send("POST", target.url, subscriptions.headers_of(target.secret), deadline=deadline)
    finally:
        line.close()
    if not answer.ok:
        raise Unavailable(answer.fault or f"HTTP {answer.status}")
    if target.kind is not DestinationKind.FHIR:
        return f"HTTP {answer.status}"
    found = resource_in(answer.body)
    if not isinstance(found, dict) or found.get("resourceType") != "CapabilityStatement":
        raise Unavailable("its /metadata is no CapabilityStatement")
    version = str(found.get("fhirVersion"))
    if not version.startswith("4."):
        raise Unavailable("it does not speak FHIR R4")
    rest = [r for r in items(found.get("rest")) if isinstance(r, dict)]
    offered = {str(i.get("code")) for r in rest for i in items(r.get("interaction")) if isinstance(i, dict)}
    return "FHIR R4" if "transaction" in offered else "FHIR R4; its CapabilityStatement promises no transactions"
