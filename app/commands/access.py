"""`hyojun users …` and `hyojun clients …`: who has access. Whoever may ask the database needs no other proof."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.commands import open_database, operator, read_settings
from app.errors import InvalidInput
from schemas.access import Right, Role

if TYPE_CHECKING:
    from app.settings import Settings
    from schemas.access import Machine, Person

users = typer.Typer(
    help="People who sign in with a password or at an OpenID provider, and their roles: integrator, reviewer, admin.",
    no_args_is_help=True,
)
clients = typer.Typer(
    help="Machines that sign in with a key (SMART Backend Services), and what they may do.", no_args_is_help=True
)

Login = Annotated[str, typer.Argument(help="What the person types to sign in.")]
ClientId = Annotated[str, typer.Argument(metavar="ID", help="The client_id.")]


# --- people -----------------------------------------------------------------------------------------------------------


@users.command("add")
def add_user(
    login: Login,
    role: Annotated[list[Role], typer.Option(help="Of the person; may be given several times.")],
    name: Annotated[str | None, typer.Option(help="What others see; default, the login.")] = None,
) -> None:
    """Makes an account and prints a link at which its owner chooses a password, once and within a day."""
    from app import accounts

    with open_database() as database, database.session_scope() as session:
        made = accounts.add_user(session, login, name or login, tuple(role), by=operator())
        token = accounts.make_link(session, made.id, by=operator())
    _print_link(f"{made.login}: {', '.join(made.roles)}", token)


@users.command("list")
def list_users() -> None:
    """Shows everybody who has an account."""
    from app import accounts

    with open_database() as database, database.session_scope() as session:
        found = accounts.list_users(session)
    rows = [
        (one.login, one.name, ", ".join(one.roles), "OpenID" if one.external else "password", _state(one))
        for one in found
    ]
    _show(("login", "name", "roles", "signs in with", "state"), rows)


@users.command("roles")
def change_roles(
    login: Login,
    role: Annotated[list[Role] | None, typer.Argument(help="All that the person shall have; none: none.")] = None,
) -> None:
    """Gives a person other roles, from the next request on."""
    from app import accounts

    with open_database() as database, database.session_scope() as session:
        found = accounts.user_of_login(session, login)
        changed = accounts.set_roles(session, found.id, tuple(role or ()), by=operator())
    typer.echo(f"{changed.login}: {', '.join(changed.roles) or 'no role'}")


@users.command("disable")
def disable_user(
    login: Login, again: Annotated[bool, typer.Option("--enable", help="Take it back.")] = False
) -> None:
    """Closes an account and ends its sessions; what the person did stays on record."""
    from app import accounts

    with open_database() as database, database.session_scope() as session:
        found = accounts.user_of_login(session, login)
        changed = accounts.set_disabled(session, found.id, disabled=not again, by=operator())
    typer.echo(f"{changed.login}: {_state(changed)}")


@users.command("reset")
def reset_user(login: Login) -> None:
    """Ends a person's sessions and password, and prints a link for a new one.

    The password of the only administrator ends when the link is used.
    """
    from app import accounts

    with open_database() as database, database.session_scope() as session:
        found = accounts.user_of_login(session, login)
        token = accounts.make_link(session, found.id, by=operator())
    _print_link(found.login, token)


@users.command("admin-link")
def admin_link() -> None:
    """Prints a link that makes the first administrator, while there is none."""
    from app import accounts

    with open_database() as database, database.session_scope() as session:
        token = accounts.make_admin_link(session)
    _print_link("first administrator", token)


def invite_admin(settings: "Settings") -> None:
    """At the start of the API, while nobody can administer: a link on the operator's terminal. What a terminal does not
    read may be kept as a log, so there it is only said how to get one."""
    from sqlalchemy.exc import SQLAlchemyError

    from app import accounts
    from app.db import Database

    database = Database(settings.require_database_url())
    try:
        with database.session_scope() as session:
            if accounts.has_admin(session):
                return
            token = accounts.make_admin_link(session) if sys.stdout.isatty() else None
    except SQLAlchemyError:
        return  # the database is away or has no tables yet, which /readyz says
    finally:
        database.dispose()
    if token is None:
        typer.echo("no administrator yet: `hyojun users admin-link` prints the link that makes the first one")
    else:
        _print_link("first administrator", token)


def setup_url(token: str, base: str | None = None) -> str:
    """`base`: where people reach the API; default, as the settings say."""
    from app.accounts import SETUP_PATH

    if base is None:
        settings = read_settings()
        # Where the API listens on every address, this machine's own is one of them.
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.api_host, settings.api_host)  # noqa: S104
        base = settings.public_url or f"http://{f'[{host}]' if ':' in host else host}:{settings.api_port}"
    return f"{base}{SETUP_PATH}?token={token}"


def _print_link(what: str, token: str) -> None:
    typer.echo(what)
    typer.echo(f"{setup_url(token)}   (once, within a day)")


def _state(person: "Person") -> str:
    if person.disabled:
        return "disabled"
    return "active" if person.ready else "waits for a password"


# --- machines ---------------------------------------------------------------------------------------------------------


@clients.command("add")
def add_client(
    client_id: ClientId,
    name: Annotated[str, typer.Option(help="What it is.")],
    jwks: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Its public keys: a JSON Web Key Set.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="At /fhir, such as system/*.rs; may be given several times.")
    ] = None,
    right: Annotated[
        list[Right] | None, typer.Option(help="Elsewhere, such as notes.write; may be given several times.")
    ] = None,
    drafts: Annotated[bool, typer.Option("--drafts", help="It sees what no person has released, too.")] = False,
) -> None:
    """Registers a client. Keys: RSA of 2048 bits or more (RS384) or EC P-384 (ES384), each with a kid."""
    from app import smart

    with open_database() as database, database.session_scope() as session:
        made = smart.register(
            session, client_id, name, _keys(jwks), scopes=scope or (), rights=right or (), drafts=drafts, by=operator()
        )
    typer.echo(f"{made.id}: {_allowed(made)}")


@clients.command("list")
def list_clients() -> None:
    """Shows every registered client."""
    from app import smart

    with open_database() as database, database.session_scope() as session:
        found = smart.list_clients(session)
    rows = [(one.id, one.name, _allowed(one), ", ".join(one.keys), "disabled" if one.disabled else "active") for one in found]
    _show(("id", "name", "may", "keys", "state"), rows)


@clients.command("disable")
def disable_client(
    client_id: ClientId, again: Annotated[bool, typer.Option("--enable", help="Take it back.")] = False
) -> None:
    """Ends a client's tokens and gives it no more."""
    from app import smart

    with open_database() as database, database.session_scope() as session:
        changed = smart.set_disabled(session, client_id, disabled=not again, by=operator())
    typer.echo(f"{changed.id}: {'disabled' if changed.disabled else 'active'}")


@clients.command("key")
def replace_keys(
    client_id: ClientId,
    jwks: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Its public keys from now on.")],
) -> None:
    """Replaces a client's keys; tokens got with the former ones end."""
    from app import smart

    with open_database() as database, database.session_scope() as session:
        changed = smart.replace_keys(session, client_id, _keys(jwks), by=operator())
    typer.echo(f"{changed.id}: {', '.join(changed.keys)}")


@clients.command("token")
def print_token(
    client_id: ClientId,
    seconds: Annotated[int, typer.Option(min=1, max=86_400, help="It ends after this long.")] = 300,
) -> None:
    """Prints a token with all that the client may do, for trying things out with curl."""
    from app import smart

    with open_database() as database, database.session_scope() as session:
        token = smart.token_for(session, client_id, seconds=seconds, by=operator())
    typer.echo(token)


def _keys(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except ValueError:
        raise InvalidInput(f"{file} is not JSON") from None


def _allowed(machine: "Machine") -> str:
    return ", ".join([*machine.scopes, *machine.rights, *(["drafts"] if machine.drafts else [])]) or "nothing"


def _show(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.box import SIMPLE
    from rich.markup import escape
    from rich.table import Table

    from app.report import console

    out = console()
    table = Table(box=SIMPLE if out.is_terminal else None)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    out.print(table)
