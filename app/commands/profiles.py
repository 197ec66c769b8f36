"""`hyojun import-profiles` and `hyojun profiles`: the official FHIR packages that resources are checked against."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands import quiet, read_settings
from app.errors import InvalidInput

if TYPE_CHECKING:
    from rich.console import Console

MAX_WARNINGS = 50
"""Warnings listed one by one; beyond it, how many there are."""


def import_profiles(
    sources: Annotated[
        list[Path],
        typer.Argument(help="Folders with unpacked FHIR packages at any reasonable depth, or their .tgz files."),
    ],
) -> None:
    """Compiles the packages into the file that PROFILES_PATH names (default: profiles.hyojun in DATA_DIR).

    Give all packages at once (JP Core, JP-CLINS, FHIR R4, terminologies): the file is replaced as a whole, in one step.
    A running process keeps the profiles that it opened until it is started again.
    """
    settings = read_settings()
    quiet(settings)
    from app.fhir.profiles import import_profiles as compile_packages
    from app.report import console

    out, messages = console(), console(stderr=True)
    target = settings.profiles_file
    target.parent.mkdir(parents=True, exist_ok=True)
    # How much there is to do is known only when all packages are read, so time is all that can be shown.
    with messages.status("reading and compiling packages"):
        report = compile_packages(sources, target)
    counts = {
        "profiles, extensions and types": report.profiles,
        "value sets": report.value_sets,
        "code systems": report.code_systems,
        "invariants": report.invariants,
    }
    _show(out, messages, report.packages, report.warnings, counts)
    out.print(f"fingerprint {report.fingerprint}   {target}", soft_wrap=True, markup=False)


def profiles() -> None:
    """Shows what is loaded; exit status 1 when there is nothing, or the file cannot be used."""
    settings = read_settings()
    quiet(settings)
    from app.fhir.profiles import Profiles
    from app.report import console

    path = settings.profiles_file
    if not path.exists():
        raise InvalidInput(f"no profiles are loaded: {path} is not there; `hyojun import-profiles DIR` makes it")
    loaded = Profiles.open(path)
    _show(console(), console(stderr=True), loaded.packages, loaded.warnings, {})
    console().print(f"fingerprint {loaded.fingerprint}   {path}", soft_wrap=True, markup=False)


def _show(
    out: "Console", messages: "Console", packages: Iterable[str], warnings: tuple[str, ...], counts: Mapping[str, int]
) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE if out.is_terminal else None)
    table.add_column("package", no_wrap=True)
    table.add_column("version", no_wrap=True)
    for package in packages:
        table.add_row(*package.split("#", 1))
    out.print(table)
    if counts:
        out.print("   ".join(f"{name}: {count}" for name, count in counts.items()), soft_wrap=True)
    for warning in warnings[:MAX_WARNINGS]:
        messages.print(f"warning: {warning}", markup=False, soft_wrap=True)
    if len(warnings) > MAX_WARNINGS:
        messages.print(f"and {len(warnings) - MAX_WARNINGS} more warnings")
