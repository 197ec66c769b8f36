"""`hyojun push …`: the systems that results are sent to, what waits for them, and what was given up."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from app.commands import open_database, operator, read_settings
from app.errors import InvalidInput
from schemas.push import (
    DeliveryState,
    DestinationKind,
    NewDestination,
    PushEvent,
    PushLogin,
    PushMode,
)

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.outgoing import Secrets

push = typer.Typer(
    help="Systems that results are sent to: FHIR servers and webhooks; what waits, and what was given up.",
    no_args_is_help=True,
)
add = typer.Typer(help="Adds a system. Nothing is sent anywhere before.", no_args_is_help=True)
push.add_typer(add, name="add")

_Name = Annotated[str, typer.Argument(help="Of the destination.")]
_OwnName = Annotated[str, typer.Option("--name", help="By which it is known here: letters, digits, . _ -")]
_HTTP = Annotated[bool, typer.Option("--insecure-http", help="Take http://: what is sent can be read on the way.")]
_CA = Annotated[str | None, typer.Option("--ca-file", help="Certificates to trust instead of the system's.")]
_CERT = Annotated[str | None, typer.Option("--cert-file", help="Our own certificate (mTLS).")]
_KEY = Annotated[str | None, typer.Option("--key-file", help="Its key, where the certificate's file has none.")]


def _secrets() -> "Secrets":
    from app.outgoing import Secrets

    return Secrets(read_settings().secrets_dir)


@contextmanager
def _session() -> Iterator["Session"]:
    with open_database() as database, database.session_scope() as session:
        yield session


@add.command("fhir")
def add_fhir(
    url: Annotated[str, typer.Argument(help="Base URL of a FHIR R4 server.")],
    name: _OwnName,
    mode: Annotated[
        PushMode,
        typer.Option(
            help="conditional: resources are found by identifier and keep the server's ids; update: by our ids."
        ),
    ] = PushMode.CONDITIONAL,
    provenance: Annotated[
        bool, typer.Option(help="Off for a conditional server that takes no id of ours (update-as-create).")
    ] = True,
    login: Annotated[PushLogin, typer.Option(help="smart: SMART Backend Services.")] = PushLogin.NONE,
    login_name: Annotated[str | None, typer.Option(help="User of basic, client id of smart.")] = None,
    secret_file: Annotated[
        str | None, typer.Option(help="File in PUSH_SECRETS_DIR: token, password, or private key (PEM).")
    ] = None,
    key_id: Annotated[str | None, typer.Option(help="kid of the private key.")] = None,
    token_url: Annotated[str | None, typer.Option(help="Default: as its smart-configuration says.")] = None,
    scope: Annotated[str | None, typer.Option(help="Default: system/*.cruds.")] = None,
    ca_file: _CA = None,
    cert_file: _CERT = None,
    key_file: _KEY = None,
    insecure_http: _HTTP = False,
) -> None:
    """A FHIR server: what is released of a note is sent to it as one transaction Bundle.

    All files are named without a path and lie in PUSH_SECRETS_DIR (default: push-secrets in DATA_DIR).
    """
    _add(
        name=name, kind=DestinationKind.FHIR, url=url, mode=mode, provenance=provenance, login=login,
        login_name=login_name, secret_file=secret_file, key_id=key_id, token_url=token_url, scope=scope, ca_file=ca_file,
        cert_file=cert_file, key_file=key_file, http=insecure_http,
    )  # fmt: skip
    typer.echo(f"{name}: added; `hyojun push test {name}` asks whether it answers")


@add.command("webhook")
def add_webhook(
    url: Annotated[str, typer.Argument(help="Where to POST.")],
    name: _OwnName,
    event: Annotated[
        list[PushEvent] | None, typer.Option(help="note.converted, resource.released; again for both. Default: both.")
    ] = None,
    ca_file: _CA = None,
    cert_file: _CERT = None,
    key_file: _KEY = None,
    insecure_http: _HTTP = False,
) -> None:
    """A webhook: signed JSON with ids, and no word about a patient. Its signing key is shown once."""
    key = _add(
        name=name, kind=DestinationKind.WEBHOOK, url=url, ca_file=ca_file, cert_file=cert_file, key_file=key_file,
        http=insecure_http, events=frozenset(event or (PushEvent.CONVERTED, PushEvent.RELEASED)),
    )  # fmt: skip
    typer.echo(f"{name}: added; `hyojun push test {name}` sends a ping")
    typer.echo(f"signing key, shown this once: {key}")


def _add(**values: Any) -> str | None:
    from pydantic import ValidationError

    from app import destinations

    try:
        new = NewDestination(**values)
    except ValidationError as error:
        places = sorted({str(detail["loc"][0]) for detail in error.errors()})
        raise InvalidInput("not taken: " + ", ".join(places)) from None
    with _session() as session:
        _, key = destinations.add(session, new, by=operator())
    return key


@push.command("list")
@push.command("status")
def show_status() -> None:
    """Every destination: what waits, since when, what was given up, and why the newest try failed."""
    from rich.box import SIMPLE
    from rich.markup import escape
    from rich.table import Table

    from app import outbox
    from app.report import console

    with _session() as session:
        found = outbox.status(session)
    out = console()
    table = Table(box=SIMPLE if out.is_terminal else None)
    for column in ("name", "kind", "state", "waiting", "oldest", "dead", "sent", "problem", "url"):
        table.add_column(column, overflow="fold")
    for one in found:
        oldest = "" if one.waiting_seconds is None else f"{one.waiting_seconds:.0f} s"
        cells = (
            one.name, one.kind, one.state, str(one.waiting), oldest, str(one.dead), str(one.sent), one.problem or "", one.url
        )  # fmt: skip
        table.add_row(*(escape(cell) for cell in cells))
    out.print(table)
    out.print("1 destination" if len(found) == 1 else f"{len(found)} destinations")


@push.command("test")
def test_destination(name: _Name) -> None:
    """Asks whether it answers, with our login and nothing of a patient. Exit status 1 where it does not."""
    from app import outbox
    from app.pusher import probe

    settings = read_settings()
    with open_database() as database:
        with database.session_scope() as session:
            row = outbox.named(session, name)
        typer.echo(f"{name}: {probe(row, _secrets(), settings.push_policy)}")


@push.command("pause")
def pause(name: _Name) -> None:
    """Sends nothing there until it is resumed; what happens meanwhile waits."""
    from app import destinations

    with _session() as session:
        destinations.pause(session, name)
    typer.echo(f"{name}: paused")


@push.command("resume")
def resume(name: _Name) -> None:
    """Sends there again, and at once."""
    from app import destinations

    with _session() as session:
        destinations.resume(session, name)
    typer.echo(f"{name}: active")


@push.command("remove")
def remove(
    name: _Name,
    force: Annotated[bool, typer.Option("--force", help="Although deliveries wait there or are dead.")] = False,
) -> None:
    """Forgets it, with the record of what was sent there."""
    from app import destinations

    with _session() as session:
        destinations.remove(session, name, by=operator(), force=force)
    typer.echo(f"{name}: removed")


@push.command("dead")
def dead(
    name: Annotated[str | None, typer.Argument(help="Default: of all destinations.")] = None,
    count: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
) -> None:
    """Deliveries that were given up, newest first, and why: `hyojun push replay` has them sent again."""
    from app import outbox

    with _session() as session:
        found = outbox.deliveries(session, destination=name, state=DeliveryState.DEAD, limit=count)
    for one in found:
        issues = "; ".join(
            " ".join([str(issue.get("severity", "")), str(issue.get("code", "")), *issue.get("expression", ())])
            for issue in one.outcome or ()
        )
        typer.echo(f"{one.id}  {one.destination}  {one.event}  note {one.note_id}  {one.reason}  {issues}".rstrip())
    typer.echo("1 is dead" if len(found) == 1 else f"{len(found)} are dead")


@push.command("replay")
def replay(
    name: Annotated[str | None, typer.Argument(help="All dead deliveries of this destination.")] = None,
    delivery: Annotated[list[UUID] | None, typer.Option("--id", help="This one; again for more.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All dead deliveries.")] = False,
) -> None:
    """Puts dead deliveries back into the outbox; the newest state of the resources is sent."""
    from app import outbox

    if sum((name is not None, bool(delivery), everything)) != 1:
        raise InvalidInput("name a destination, or --id, or --all")
    with _session() as session:
        count = outbox.replay(session, name, delivery or ())
    typer.echo(f"{count} wait again")


@push.command("send")
def send() -> None:
    """Sends what is due now and ends; the workers do the same all the time."""
    from app.pusher import send_all

    settings = read_settings()
    with open_database() as database:
        count = send_all(database, _secrets(), settings.push_policy)
    typer.echo("1 delivery tried" if count == 1 else f"{count} deliveries tried")
