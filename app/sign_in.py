"""People at the door: a name and a password for a session, and who a session stands for.

Guessing is slowed down where all processes see it: after `FREE_TRIES` wrong passwords in a row an account or an address is
locked, each time for twice as long. A name that nobody has behaves as one that somebody has, in time and in words.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import and_, case, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app import passwords
from app.access import digest
from app.accounts import described, end_sessions
from app.db import Database
from app.errors import Forbidden, InvalidInput, NotSignedIn, TooMany
from models import LoginAttempt, User, UserSession
from schemas.access import Person, Principal, Role, principal_of_roles

FREE_TRIES = {"account": 5, "address": 20}
"""Wrong ones in a row; many people may share an address."""
FIRST_LOCK_SECONDS = 30
LONGEST_LOCK_SECONDS = 900
"""A lock keeps the owner out as well: nobody can be kept out for longer than this by one more guess."""
_FORGOTTEN = timedelta(days=1)
_SEEN = timedelta(seconds=60)
"""A session's last use is written this often at most."""


@dataclass(frozen=True)
class Lifetimes:
    """Of a session: without a request, and in all."""

    idle_seconds: int
    max_seconds: int


def sign_in(
    database: Database, login: str, password: str, *, address: str, lifetimes: Lifetimes, former: str | None = None
) -> str:
    """The secret of a new session. `former`: that of the browser's session until now, which ends.

    Raises: NotSignedIn for a wrong name or password, or a disabled account; TooMany while locked.
    """
    login = login.strip().lower()
    with database.session_scope() as session:
        # Counted before it is known to be wrong, so that guesses at the same moment are counted too.
        _count(session, "account", login)
        _count(session, "address", address)
    with database.session_scope() as session:
        found = session.execute(
            select(User.id, User.password_hash).where(User.login == login, User.disabled_at.is_(None))
        ).one_or_none()
    # No transaction is open while the password is compared.
    kept = found.password_hash if found else None
    if not passwords.matches(password, kept) or found is None or kept is None:
        raise NotSignedIn("the name or the password is wrong")
    renewed = passwords.hashed(password) if passwords.outdated(kept) else kept
    with database.session_scope() as session:
        still = and_(User.id == found.id, User.password_hash == kept, User.disabled_at.is_(None))
        if session.scalar(update(User).where(still).values(password_hash=renewed).returning(User.id)) is None:
            raise NotSignedIn("the name or the password is wrong")
        session.execute(delete(LoginAttempt).where(LoginAttempt.sha256 == _key("account", login)))
        _forgive(session, "address", address)
        return open_session(session, found.id, lifetimes, former=former)


def open_session(session: Session, user_id: UUID, lifetimes: Lifetimes, *, former: str | None = None) -> str:
    """The secret of a new session of somebody who has proved who he is."""
    ended = UserSession.expires_at < func.now()
    if former is not None:
        ended = or_(ended, UserSession.sha256 == digest(former))
    session.execute(delete(UserSession).where(ended))
    secret = secrets.token_urlsafe(32)
    session.add(
        UserSession(
            sha256=digest(secret), user_id=user_id, expires_at=func.now() + timedelta(seconds=lifetimes.max_seconds)
        )
    )
    session.flush()
    return secret


def principal_of_session(session: Session, secret: str, lifetimes: Lifetimes) -> Principal:
    """With the roles of this moment. Raises: NotSignedIn for a session that has ended, or whose account is disabled."""
    user, seen = _session_user(session, secret, lifetimes)
    if seen:
        session.execute(
            update(UserSession).where(UserSession.sha256 == digest(secret)).values(seen_at=func.now())
        )
    return principal_of_roles(f"user:{user.id}", user.name, [Role(role) for role in user.roles])


def person_of_session(session: Session, secret: str, lifetimes: Lifetimes) -> Person:
    """Raises: NotSignedIn."""
    return described(_session_user(session, secret, lifetimes)[0])


def sign_out(session: Session, secret: str) -> None:
    session.execute(delete(UserSession).where(UserSession.sha256 == digest(secret)))


def change_password(
    database: Database, person: Person, present: str, new: str, *, address: str, lifetimes: Lifetimes
) -> str:
    """Ends all sessions of the person; the secret of a new one.

    Raises: Forbidden for a wrong present password; InvalidInput; TooMany.
    """
    if person.external:
        raise InvalidInput("password: is kept by the OpenID provider")
    passwords.check_new(new, person.login, person.name)
    try:
        sign_in(database, person.login, present, address=address, lifetimes=lifetimes)
    except NotSignedIn:
        raise Forbidden("the present password is wrong") from None
    kept = passwords.hashed(new)
    with database.session_scope() as session:
        session.execute(update(User).where(User.id == person.id).values(password_hash=kept))
        end_sessions(session, person.id)
        return open_session(session, person.id, lifetimes)


def csrf_token(secret: str) -> str:
    """What a form of this session must bring along; it says nothing of the session's secret."""
    return hashlib.sha256(b"csrf:" + secret.encode()).hexdigest()


def _session_user(session: Session, secret: str, lifetimes: Lifetimes) -> tuple[User, bool]:
    """The account, and whether the session's last use is to be written."""
    row = session.execute(
        select(User, UserSession.seen_at < func.now() - _SEEN)
        .join(UserSession, UserSession.user_id == User.id)
        .where(
            UserSession.sha256 == digest(secret),
            UserSession.expires_at > func.now(),
            UserSession.seen_at > func.now() - timedelta(seconds=lifetimes.idle_seconds),
            User.disabled_at.is_(None),
        )
    ).one_or_none()
    if row is None:
        raise NotSignedIn("the session has ended; sign in again")
    return row[0], bool(row[1])


def _count(session: Session, kind: str, tried: str) -> None:
    """One more attempt. Raises: TooMany while locked; such an attempt is not counted."""
    row = LoginAttempt.__table__.c
    session.execute(delete(LoginAttempt).where(LoginAttempt.last_at < func.now() - _FORGOTTEN))
    failures = session.scalar(
        insert(LoginAttempt)
        .values(sha256=_key(kind, tried), failures=1)
        .on_conflict_do_update(
            index_elements=[LoginAttempt.sha256],
            set_={"failures": row.failures + 1, "last_at": func.now(), "locked_until": None},
            where=or_(row.locked_until.is_(None), row.locked_until <= func.now()),
        )
        .returning(LoginAttempt.failures)
    )
    this = LoginAttempt.sha256 == _key(kind, tried)
    if failures is None:
        left = session.scalar(select(func.extract("epoch", LoginAttempt.locked_until - func.now())).where(this))
        raise TooMany("too many failed attempts; try again later", max(1, int(left or 1) + 1))
    beyond = failures - FREE_TRIES[kind]
    if beyond >= 0:
        seconds = min(FIRST_LOCK_SECONDS * 2 ** min(beyond, 20), LONGEST_LOCK_SECONDS)
        session.execute(
            update(LoginAttempt).where(this).values(locked_until=func.now() + timedelta(seconds=seconds))
        )


def _forgive(session: Session, kind: str, tried: str) -> None:
    """Takes the attempt back that succeeded, and no other: one good account must not open the way for guesses at others."""
    this = LoginAttempt.sha256 == _key(kind, tried)
    session.execute(delete(LoginAttempt).where(this, LoginAttempt.failures <= 1))
    locked = case((LoginAttempt.failures > FREE_TRIES[kind], LoginAttempt.locked_until), else_=None)
    session.execute(
        update(LoginAttempt).where(this).values(failures=LoginAttempt.failures - 1, locked_until=locked)
    )


def _key(kind: str, tried: str) -> str:
    return digest(f"{kind}:{tried}")
