"""Code masters in a browser: which releases there are, one more from a file, another one in use, and what two differ in."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from app import audit
from app.batch_report import csv_line
from app.db import Database
from app.errors import Conflict, HyojunError, InvalidInput, TooLong
from app.terminology import local
from app.terminology.changes import ChangeKind, CodeChange, compare, every_change
from app.terminology.importers import KINDS, import_files, list_releases, load_starter, use_release
from app.terminology.importers.files import MAX_BYTES
from app.terminology.importers.releases import Report
from app.terminology.masters import MASTERS, STARTER
from app.web.access import Form, Who
from app.web.admin_frame import Failure, back_to, framed
from app.web.background import Background, Progress
from app.web.outcome import Refused
from app.web.uploads import Upload, read_upload
from models import CodeSystemRelease
from schemas.access import Principal
from schemas.review import AuditAction

PATH = "/admin/terminology"
SHOWN_CHANGES = 200
"""Rows of a comparison on the page; its CSV has all."""
POLL_SECONDS = 2
_IMPORT = "import"
_CSV = "text/csv; charset=utf-8"


def terminology_pages_router(database: Database, background: Background) -> APIRouter:
    router = APIRouter(prefix=PATH, include_in_schema=False)

    @router.get("")
    def releases(request: Request, who: Who) -> Response:
        return _releases_page(request, who)

    @router.post("/imports")
    def start_import(request: Request, who: Who) -> Response:
        """The file is stored for as long as its import takes; the answer leads to the page that tells how far that is."""
        folder = tempfile.TemporaryDirectory(prefix="hyojun-import-", ignore_cleanup_errors=True)
        try:
            if background.open(_IMPORT):
                raise Conflict("another one is at work; wait until it has ended")
            upload = read_upload(request)
            kind, version = upload.fields.get("kind", ""), upload.fields.get("version", "").strip() or None
            if kind not in KINDS:
                raise InvalidInput("kind: must be one of " + ", ".join(KINDS))
            path = _saved(upload, Path(folder.name))
            force = "force" in upload.fields

            def run(progress: Progress) -> Report:
                with folder:
                    report = import_files(database, kind, [path], version=version, force=force, progress=progress)
                with database.session_scope() as session:
                    _told(session, who, report)
                return report

            work = background.start(_IMPORT, who.id, run)
        except (HyojunError, Refused) as error:
            folder.cleanup()
            return _releases_page(request, who, error)
        return back_to(f"{PATH}/imports/{work.id}", "")

    @router.get("/imports/{import_id}")
    def show_import(request: Request, import_id: UUID, who: Who) -> Response:
        work = background.find(_IMPORT, import_id)
        with database.session_scope() as session:
            lost = len(local.lost(session)) if work.over else 0
        values = {"work": work, "report": work.result, "lost": lost, "refresh": None if work.over else POLL_SECONDS}
        return framed(request, who, "admin_import.html", values, error=work.error)

    @router.post("/starter")
    def starter(request: Request, who: Who) -> Response:
        with database.session_scope() as session:
            if load_starter(session):
                audit.record(session, AuditAction.ADMIN, by=who.id, after={"kind": STARTER})
        return back_to(PATH)

    @router.post("/use")
    def use(request: Request, who: Who, form: Form) -> Response:
        try:
            if background.open(_IMPORT):
                raise Conflict("another one is at work; wait until it has ended")
            changed = use_release(database, form.get("system", ""), form.get("version", ""))
        except HyojunError as error:
            return _releases_page(request, who, error)
        with database.session_scope() as session:
            audit.record(
                session, AuditAction.ADMIN, by=who.id, ids=sorted(f"CodeSystem/{one.id}" for one in changed),
                after=[{"system": one.system, "version": one.version} for one in changed],
            )  # fmt: skip
        return back_to(PATH)

    @router.get("/compare")
    def show_changes(
        request: Request, who: Who, before: UUID, after: UUID, kind: ChangeKind | None = None
    ) -> Response:
        with database.session_scope() as session:
            found = compare(session, before, after, kind=kind, count=SHOWN_CHANGES)
            rows = {row.id: row for row in (session.get_one(CodeSystemRelease, one) for one in (before, after))}
            values: dict[str, Any] = {
                "changes": found, "before": rows[before], "after": rows[after], "kind": kind, "kinds": list(ChangeKind),
            }  # fmt: skip
            return framed(request, who, "admin_compare.html", values)

    @router.get("/compare.csv")
    def changes_csv(before: UUID, after: UUID) -> Response:
        with database.session_scope() as session:
            content = "".join(_lines(every_change(session, before, after)))
        headers = {"Content-Disposition": f'attachment; filename="{before}-{after}.csv"'}
        return Response(content.encode("utf-8-sig"), 200, headers, _CSV)

    def _releases_page(request: Request, who: Principal, error: Failure | None = None) -> Response:
        found = list_releases(database)
        with database.session_scope() as session:
            lost = len(local.lost(session))
        systems: dict[str, list[Any]] = {}
        for release in found:
            systems.setdefault(release.system, []).append(release)
        values = {"systems": systems, "kinds": [(kind, MASTERS[kind]) for kind in KINDS], "lost": lost, "work": background.open(_IMPORT)}
        return framed(request, who, "admin_terminology.html", values, error=error)

    return router


def _saved(upload: Upload, folder: Path) -> Path:
    """The file under its own name, which may say its version. Raises: InvalidInput without one, TooLong."""
    name = Path(upload.name.replace("\\", "/")).name
    if not name or name in (".", "..") or not name.isprintable():
        raise InvalidInput("the file: none was chosen")
    path, size = folder / name[-200:], 0
    with path.open("wb") as out:
        for part in upload.parts:
            size += len(part)
            if size > MAX_BYTES:
                raise TooLong(f"the file has more than {MAX_BYTES:,} bytes")
            out.write(part)
    return path


def _told(session: Session, who: Principal, report: Report) -> None:
    stored = {(row.system, row.version): row.id for row in session.scalars(select(CodeSystemRelease))}
    made = [one for one in report.releases if not one.already]
    if made:
        audit.record(
            session, AuditAction.ADMIN, by=who.id,
            ids=sorted(f"CodeSystem/{stored[one.system, one.version]}" for one in made),
            after=[{"system": one.system, "version": one.version, "concepts": one.concepts} for one in made],
        )  # fmt: skip


def _lines(changes: Iterator[CodeChange]) -> Iterator[str]:
    yield csv_line(("change", "code", "before", "after", "parts"))
    for one in changes:
        yield csv_line((one.kind, one.code, one.before, one.after, " ".join(one.facts)))
