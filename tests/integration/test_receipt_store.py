"""Claim files on a real Postgres: taken in, linked to notes, decided, and the tables they are checked by."""

import io
from datetime import date, timedelta
from uuid import UUID, uuid4

import pytest
from receipt_files import chart_note, claim_ids, claim_lines, detail, take_in, uke
from sqlalchemy import func, select, text

from app import jobs, receipt_store, receipt_tables, retention
from app.db import Database
from app.errors import Conflict, InvalidInput, NotFound, TooLong
from app.receipt_store import Item
from app.receipts.uke import read_uke
from models import AuditEvent, Job, ReceiptFile, ReceiptItem
from schemas.issue import IssueType
from schemas.receipt import Advised, Edited, ItemState, Rule
from schemas.review import AuditAction


def first_item(database: Database, file_id: UUID) -> Item:
    return detail(database, claim_ids(database, file_id)[0]).items[0]


def decide(database: Database, item: Item, state: ItemState, edited: Edited | None = None, version: int | None = None) -> Item:
    with database.session_scope() as session:
        seen = item.version if version is None else version
        return receipt_store.decide(session, item.id, seen, state, edited, "user:7")


# --- in ---------------------------------------------------------------------------------------------------------------


def test_a_file_is_taken_in_with_its_claims_findings_and_jobs(database: Database) -> None:
    content = uke(claim_lines(1), claim_lines(2, "0002"))
    taken = take_in(database, content)
    assert (taken.created, taken.claims, taken.faults) == (True, 2, 0)
    again = take_in(database, content)
    assert again == receipt_store.Taken(taken.file_id, False, 2, taken.findings, 0)
    with database.session_scope() as session:
        file = receipt_store.get_file(session, taken.file_id)
        rows = receipt_store.claims_page(session, taken.file_id)
        assert receipt_store.content(session, taken.file_id) == content
        assert receipt_store.list_files(session)[0].id == taken.file_id
        priorities = session.scalars(select(Job.priority).where(Job.receipt_claim_id.in_([row.id for row in rows]))).all()
    assert (file.institution, file.claims, file.needing, file.progress.queued) == ("1234567", 2, 2, 2)
    assert file.items == file.open == taken.findings
    assert list(priorities) == [jobs.INTERACTIVE] * 2
    assert [(row.number, row.line, row.last_line, row.chart_number, row.month) for row in rows] == [
        (1, 2, 6, "0001", date(2024, 6, 1)), (2, 7, 11, "0002", date(2024, 6, 1)),
    ]  # fmt: skip
    found = detail(database, rows[1].id)
    wanted = [part for part in read_uke(io.BytesIO(content)) if part.records[0].kind == "RE"][1]
    assert found.claim.records == wanted.records  # with its lines of the file
    assert [item.finding.rule for item in found.items if item.finding and item.line == 11] == [Rule.INDICATION]
    assert [block.line for block in found.case.blocks] == [9, 10, 11]
    assert not found.stale and found.run is None


def test_a_broken_record_is_told_and_the_other_claims_go_on(database: Database) -> None:
    broken = claim_lines(1, "0011")
    broken[2] = broken[2].replace("8840107", "88X0107")
    content = b"XX\r\n".join(uke(broken, claim_lines(2, "0012")).split(b"IR", 1)).replace(b"XX\r\n", b"\x81,\r\nIR", 1)
    taken = take_in(database, content)
    assert (taken.claims, taken.faults) == (2, 2)
    with database.session_scope() as session:
        file = receipt_store.get_file(session, taken.file_id)
        faults = [[(fault.line, fault.name) for fault in row.faults] for row in receipt_store.claims_page(session, file.id)]
    assert ([fault.line for fault in file.faults], file.claim_faults) == ([1], 1)
    assert faults == [[(5, "disease")], []]


@pytest.mark.parametrize("content", [b"", b"IR,1,13,1,1234567,,x,202407,00,\r\nGO,0,0,99\r\n", b"RE,\x81\xff\r\n"])
def test_a_file_without_claims_is_refused_and_leaves_nothing(fresh_database: Database, content: bytes) -> None:
    with pytest.raises(InvalidInput):
        take_in(fresh_database, content)
    with pytest.raises(TooLong):
        take_in(fresh_database, uke(claim_lines(1)), max_bytes=100)
    with fresh_database.session_scope() as session:
        assert session.scalar(select(func.count()).select_from(ReceiptFile)) == 0


def test_many_claims_are_a_batch_and_pages_go_on_where_they_ended(fresh_database: Database) -> None:
    taken = take_in(fresh_database, uke(*(claim_lines(n, f"{n:04}") for n in range(1, 1203))))
    assert taken.claims == 1202
    with fresh_database.session_scope() as session:
        assert session.scalars(select(Job.priority).distinct()).all() == [jobs.BATCH]
        page = receipt_store.claims_page(session, taken.file_id, after=999, limit=100)
        assert [row.number for row in page] == list(range(1001, 1101))
        judged = list(receipt_store.judged(session, taken.file_id))
    assert [row.number for row, _ in judged] == list(range(1, 1203)) and all(items for _, items in judged)
    assert detail(fresh_database, page[0].id).claim.number == 1001


# --- the chart --------------------------------------------------------------------------------------------------------


def test_notes_of_the_same_patient_and_month_are_linked(fresh_database: Database) -> None:
    born = date(1950, 1, 2)
    with fresh_database.session_scope() as session:
        ids = [
            str(jobs.submit(session, note, "emr").note_id)
            for note in (
                chart_note("腰痛。", "1", day=date(2024, 6, 30)),
                chart_note("高血圧症。", "00001", day=date(2024, 6, 1), born=None),
                chart_note("別の月。", "1", day=date(2024, 5, 31)),
                chart_note("別の患者。", "10", day=date(2024, 6, 3)),
                chart_note("別の人。", "01", day=date(2024, 6, 4), born=born + timedelta(days=1)),
            )
        ]
    taken = take_in(fresh_database, uke(claim_lines(1, "0001"), claim_lines(2, "0000")))
    first, second = (detail(fresh_database, id_) for id_ in claim_ids(fresh_database, taken.file_id))
    assert [str(note.id) for note in first.notes] == [ids[1], ids[0]]
    assert [(issue.code, ids[4] in issue.text) for issue in first.issues] == [(IssueType.CONFLICT, True)]
    assert second.notes == []


# --- people -----------------------------------------------------------------------------------------------------------


def test_decisions_are_versioned_undone_and_told(fresh_database: Database) -> None:
    taken = take_in(fresh_database, uke(claim_lines(1)))
    item = first_item(fresh_database, taken.file_id)
    accepted = decide(fresh_database, item, ItemState.ACCEPTED)
    assert (accepted.state, accepted.version, accepted.decided_by) == (ItemState.ACCEPTED, 1, "user:7")
    with pytest.raises(Conflict, match="accepted by user:7 at version 1"):
        decide(fresh_database, item, ItemState.REJECTED)
    with fresh_database.session_scope() as session:
        (row,) = receipt_store.claims_page(session, taken.file_id)
        needing = receipt_store.claims_page(session, taken.file_id, only_needing=True)
        assert row.open == row.items - 1 and len(needing) == (1 if row.open else 0)
    change = Edited(action=Advised.ADD_COMMENT, comment="腰痛に対して処方した。")
    edited = decide(fresh_database, accepted, ItemState.EDITED, change)
    assert (edited.state, edited.edited) == (ItemState.EDITED, change)
    with fresh_database.session_scope() as session:
        opened = receipt_store.undo(session, item.id, 2, "user:7")
    assert (opened.state, opened.edited, opened.decided_by, opened.version) == (ItemState.OPEN, None, None, 3)
    with pytest.raises(Conflict, match="nothing to undo"), fresh_database.session_scope() as session:
        receipt_store.undo(session, item.id, 3, "user:7")
    for state, value in ((ItemState.OPEN, None), (ItemState.EDITED, None), (ItemState.ACCEPTED, change)):
        with pytest.raises(InvalidInput):
            decide(fresh_database, opened, state, value)
    with pytest.raises(NotFound), fresh_database.session_scope() as session:
        receipt_store.decide(session, uuid4(), 0, ItemState.ACCEPTED, None, "user:7")
    with fresh_database.session_scope() as session:
        events = session.scalars(select(AuditEvent).where(AuditEvent.subject == item.id).order_by(AuditEvent.id)).all()
    assert [event.action for event in events] == [AuditAction.ACCEPT, AuditAction.AMEND, AuditAction.UNDO]
    assert events[0].after == events[1].before and events[0].ids == [str(item.claim_id)]


# --- tables -----------------------------------------------------------------------------------------------------------

LIMITS = "code\tper\tmost\treference\n112007410\tmonth\t1\t{}\n"


def test_an_imported_table_takes_the_place_of_the_starters(fresh_database: Database) -> None:
    def version() -> str:
        with fresh_database.session_scope() as session:
            return receipt_tables.tables_of(session).version

    taken = take_in(fresh_database, uke(claim_lines(1)))
    starter = version()
    with fresh_database.session_scope() as session:
        first = receipt_tables.import_table(session, LIMITS.format("甲").encode(), "limits.tsv", "user:1")
        again = receipt_tables.import_table(session, LIMITS.format("甲").encode(), "limits.tsv", "user:1")
        assert (first.kind, first.rows, first.active, first.whole, first.edition) == ("limits", 1, True, False, None)
        assert again.id == first.id
    with_first = version()
    assert detail(fresh_database, claim_ids(fresh_database, taken.file_id)[0]).stale
    with fresh_database.session_scope() as session:
        second = receipt_tables.import_table(session, LIMITS.format("乙").encode(), "limits.tsv", "user:1")
        assert [(one.id, one.active) for one in receipt_tables.list_tables(session)] == [(second.id, True), (first.id, False)]
        assert receipt_tables.tables_of(session).limits["112007410"][0].reference == "乙"
    assert len({starter, with_first, version()}) == 3
    with fresh_database.session_scope() as session:
        receipt_tables.activate(session, first.id, "user:1")
    assert version() == with_first
    with fresh_database.session_scope() as session:
        receipt_tables.deactivate(session, "limits", "user:1")
    assert version() == starter
    for act in (
        lambda session: receipt_tables.deactivate(session, "limits", "user:1"),
        lambda session: receipt_tables.activate(session, uuid4(), "user:1"),
    ):
        with pytest.raises(NotFound), fresh_database.session_scope() as session:
            act(session)


# --- the end ----------------------------------------------------------------------------------------------------------


def test_old_files_go_with_a_purge_unless_somebody_is_at_them(fresh_database: Database) -> None:
    waiting, undecided, decided, young = (
        take_in(fresh_database, uke(claim_lines(n)), rules_only=n > 1).file_id for n in range(1, 5)
    )
    with fresh_database.session_scope() as session:
        old = text("UPDATE receipt_files SET created_at = now() - interval '400 days' WHERE id <> :young")
        session.execute(old, {"young": young})
    for item in detail(fresh_database, claim_ids(fresh_database, decided)[0]).items:
        decide(fresh_database, item, ItemState.REJECTED)
    year = retention.Old(timedelta(days=365))
    assert retention.purge(fresh_database, retention.Old(year.age, patient="1"), by="os:test").receipts == 0
    assert retention.purge(fresh_database, year, by="os:test").receipts == 1
    assert retention.purge(fresh_database, year, by="os:test", force=True).receipts == 1
    with fresh_database.session_scope() as session:
        assert set(session.scalars(select(ReceiptFile.id))) == {waiting, young}
        assert session.scalar(select(func.count()).select_from(ReceiptItem)) == sum(
            len(items) for id_ in (waiting, young) for _, items in receipt_store.judged(session, id_)
        )
    assert undecided not in (waiting, young)
