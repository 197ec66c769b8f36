"""People: who has an account, in which roles, and the links at which they choose a password.

Nobody has a password that somebody else has chosen. While there is no administrator, a link that only the operator sees
makes the first one.
"""

import re
import secrets
from datetime import timedelta
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, delete, func, or_, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app import audit, passwords
from app.access import digest
from app.audit import person
from app.errors import Conflict, InvalidInput, NotFound
from models import OneTimeLink, User, UserSession
from schemas.access import Person, Role
from schemas.review import AuditAction

LINK_SECONDS = 24 * 3600
SETUP_PATH = "/setup"
_LOGIN = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
_MAX_NAME = 100
# Of two first administrators at the same moment, the second one waits and finds the first.
_FIRST = text("SELECT pg_advisory_xact_lock(hashtext('hyojun first administrator'))")


def add_user(session: Session, login: str, name: str, roles: tuple[Role, ...], *, by: str) -> Person:
    """An account that nobody can use yet: `make_link` lets its owner choose a password.

    Raises: InvalidInput; Conflict where the login is taken.
    """
    login, name, by = _login(login), _name(name), person(by)
    row = session.scalar(
        insert(User)
        .values(id=uuid4(), login=login, name=name, roles=_roles(roles), created_by=by)
        .on_conflict_do_nothing(index_elements=[User.login])
        .returning(User)
    )
    if row is None:
        raise Conflict("login: there is an account of this login")
    _told(session, None, row, by)
    return described(row)


def list_users(session: Session) -> list[Person]:
    return [described(row) for row in session.scalars(select(User).order_by(User.login))]


def get_user(session: Session, user_id: UUID) -> Person:
    """Raises: NotFound."""
    return described(_row(session, User.id == user_id))


def user_of_login(session: Session, login: str) -> Person:
    """Raises: NotFound."""
    return described(_row(session, User.login == login.strip().lower()))


def set_roles(session: Session, user_id: UUID, roles: tuple[Role, ...], *, by: str) -> Person:
    """In force from the person's next request on. Raises: NotFound; Conflict for the last administrator."""
    session.execute(_FIRST)
    had = has_admin(session)
    row = _row(session, User.id == user_id)
    before = described(row)
    row.roles = _roles(roles)
    _told(session, before, row, by)
    return _unless_last(session, row, had=had)


def set_disabled(session: Session, user_id: UUID, *, disabled: bool, by: str) -> Person:
    """Disabling ends the person's sessions and links. Raises: NotFound; Conflict for the last administrator."""
    session.execute(_FIRST)
    had = has_admin(session)
    row = _row(session, User.id == user_id)
    before = described(row)
    row.disabled_at = (row.disabled_at or session.scalar(select(func.now()))) if disabled else None
    if disabled:
        end_sessions(session, user_id)
        session.execute(delete(OneTimeLink).where(OneTimeLink.user_id == user_id))
    _told(session, before, row, by)
    return _unless_last(session, row, had=had)


def has_admin(session: Session) -> bool:
    """Is there an administrator who can sign in?"""
    return session.scalar(select(func.count()).select_from(User).where(*_ADMIN)) != 0


_ADMIN = (
    User.roles.contains([Role.ADMIN.value]),
    User.disabled_at.is_(None),
    or_(User.password_hash.is_not(None), User.subject.is_not(None)),
)


# --- links ------------------------------------------------------------------------------------------------------------


def make_link(session: Session, user_id: UUID, *, by: str) -> str:
    """The token of a link at which this person chooses a password, within a day and once.

    Older links, the sessions and the present password end now; the last administrator's password when the link is used.
    Raises: NotFound; Conflict for somebody whose password an OpenID provider keeps, or who is disabled.
    """
    row = _row(session, User.id == user_id)
    if row.subject is not None:
        raise Conflict("this person's password is kept by the OpenID provider")
    if row.disabled_at is not None:
        raise Conflict("this account is disabled")
    before = described(row)
    end_sessions(session, user_id)
    if not _is_last_admin(session, row):
        row.password_hash = None
    session.execute(delete(OneTimeLink).where(OneTimeLink.user_id == user_id))
    _told(session, before, row, by)
    return _new_link(session, user_id)


def make_admin_link(session: Session) -> str:
    """The token of a link that makes the first administrator. Raises: Conflict when there is one."""
    if has_admin(session):
        raise Conflict("there is an administrator; `hyojun users reset LOGIN` gives somebody a new link")
    return _new_link(session, None)


def link_owner(session: Session, token: str) -> Person | None:
    """Whose link it is; None: the first administrator's. Raises: NotFound for one that was used, has ended, or never was."""
    found = session.execute(
        select(OneTimeLink.user_id).where(OneTimeLink.sha256 == digest(token), OneTimeLink.expires_at > func.now())
    ).one_or_none()
    if found is None:
        raise NotFound("the link was used, or has ended")
    return None if found.user_id is None else get_user(session, found.user_id)


def use_link(session: Session, token: str, password: str, *, login: str = "", name: str = "") -> Person:
    """Sets the password and ends the link. `login`, `name`: of the first administrator, whose account is made here.

    Raises: NotFound, InvalidInput (the link stays), Conflict.
    """
    owner = link_owner(session, token)
    if owner is None:
        login, name = _login(login), _name(name)
    passwords.check_new(password, *([owner.login, owner.name] if owner else [login, name]))
    kept = passwords.hashed(password)
    if owner is None:
        # Before any link is taken: whoever makes the first administrator ends the links of the others.
        session.execute(_FIRST)
    used = delete(OneTimeLink).where(OneTimeLink.sha256 == digest(token), OneTimeLink.expires_at > func.now())
    if session.execute(used.returning(OneTimeLink.sha256)).one_or_none() is None:
        raise NotFound("the link was used, or has ended")
    if owner is None:
        if has_admin(session):
            raise Conflict("there is an administrator meanwhile")
        owner = add_user(session, login, name, (Role.ADMIN,), by="one-time link")
        session.execute(delete(OneTimeLink).where(OneTimeLink.user_id.is_(None)))
    row = _row(session, User.id == owner.id)
    if row.disabled_at is not None:
        raise NotFound("the link was used, or has ended")
    before = described(row)
    row.password_hash = kept
    end_sessions(session, owner.id)
    _told(session, before, row, f"user:{owner.id}")
    return described(row)


def end_sessions(session: Session, user_id: UUID) -> None:
    session.execute(delete(UserSession).where(UserSession.user_id == user_id))


# --- parts ------------------------------------------------------------------------------------------------------------


def described(row: User) -> Person:
    return Person(
        id=row.id,
        login=row.login,
        name=row.name,
        roles=tuple(Role(role) for role in row.roles),
        external=row.subject is not None,
        ready=row.password_hash is not None or row.subject is not None,
        disabled=row.disabled_at is not None,
        created_at=row.created_at,
    )


def _row(session: Session, condition: ColumnElement[bool]) -> User:
    row = session.scalar(select(User).where(condition).with_for_update())
    if row is None:
        raise NotFound("there is no such account")
    return row


def _told(session: Session, before: Person | None, row: User, by: str) -> None:
    session.flush()
    audit.record(
        session, AuditAction.ADMIN, by=person(by), subject=row.id,
        before=before and before.model_dump(mode="json"), after=described(row).model_dump(mode="json"),
    )  # fmt: skip


def _new_link(session: Session, user_id: UUID | None) -> str:
    token = secrets.token_urlsafe(32)
    session.execute(delete(OneTimeLink).where(OneTimeLink.expires_at < func.now()))
    session.add(
        OneTimeLink(sha256=digest(token), user_id=user_id, expires_at=func.now() + timedelta(seconds=LINK_SECONDS))
    )
    session.flush()
    return token


def _unless_last(session: Session, row: User, *, had: bool) -> Person:
    session.flush()
    if had and not has_admin(session):
        raise Conflict("nobody would be left who can administer; make somebody else an administrator first")
    return described(row)


def _is_last_admin(session: Session, row: User) -> bool:
    others = select(func.count()).select_from(User).where(*_ADMIN, User.id != row.id)
    return Role.ADMIN.value in row.roles and session.scalar(others) == 0


def _roles(roles: tuple[Role, ...]) -> list[str]:
    return [role.value for role in Role if role in roles]


def _login(written: str) -> str:
    login = written.strip().lower()
    if not _LOGIN.fullmatch(login):
        raise InvalidInput("login: must be 1 to 64 of a-z, 0-9, . _ @ and -, the first a letter or digit")
    return login


def _name(written: str) -> str:
    name = written.strip()
    if not 0 < len(name) <= _MAX_NAME or not name.isprintable():
        raise InvalidInput(f"name: must be 1 to {_MAX_NAME} printable characters")
    return name
