"""The standardized storage on a real disk: names, update, deletion, journal and index."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from app.errors import InvalidInput, NotFound, Unavailable
from app.ssmix2 import (
    DataKind,
    Facility,
    Message,
    decode,
    delete,
    index,
    parse,
    path_of,
    patient_message,
    repair,
    write,
)
from app.ssmix2.entries import STRIPES
from app.ssmix2.journal import Journal
from app.ssmix2.storage import StandardStorage, current_messages, put, rebuild_index
from schemas.note import ChartNote, DocumentType, Patient

SENT_AT = datetime(2026, 4, 1, 1, 15, 30, 123_456, tzinfo=UTC)


def a_message(text: str = "1") -> Message:
    """A result message of one order; `text` tells one version from another."""
    line = f"MSH|^~\\&|A|糖尿病^{text}\rORC|NW|000000000000501\r"
    return Message(DataKind.RESULT, "0000012345", date(2026, 4, 1), "000000000000501", "01", line)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "ssmix2"


def folder(root: Path) -> Path:
    return root / "000/001/0000012345/20260401/OML-11"


def names(root: Path) -> list[str]:
    return sorted(path.name for path in folder(root).iterdir())


def flags(root: Path) -> list[str]:
    return [name[-1] for name in names(root)]


def content(root: Path, flag: str) -> list[str]:
    """Versions of `a_message` with `flag`, oldest first."""
    paths = sorted(path for path in folder(root).iterdir() if path.name.endswith(f"_{flag}"))
    return [parse(decode(path.read_bytes()))[0].get(4, 2) for path in paths]


# --- names ---


def test_paths() -> None:
    name = "0000012345_20260401_OML-11_000000000000501_20260401101530123_01_1"
    assert str(path_of(a_message(), SENT_AT)) == f"000/001/0000012345/20260401/OML-11/{name}"
    person = Patient(id="ABC4567", family="見本", given="花子", birth_date=date(1958, 3, 14))
    note = ChartNote(
        id="n", document_type=DocumentType.PROGRESS, department="内科", date=date(2026, 4, 1), patient=person, text="x"
    )
    message = patient_message(note, Facility("見本病院", department_code="01"), control_id="1", sent_at=SENT_AT)
    name = "ABC4567_-_ADT-00_999999999999999_20260401101530123_-_1"
    assert str(path_of(message, SENT_AT)) == f"ABC/456/ABC4567/-/ADT-00/{name}"


@pytest.mark.parametrize(
    "wrong",
    [
        {"patient_id": "123456"},
        {"patient_id": "../../etc"},
        {"order_no": "501"},
        {"department": "内科"},
        {"department": "a/b"},
    ],
)
def test_a_name_outside_the_grammar_is_refused(wrong: dict[str, str], root: Path) -> None:
    with pytest.raises(InvalidInput, match="file name"):
        write(root, replace(a_message(), **wrong), SENT_AT)
    assert list(root.parent.iterdir()) == []


# --- update and deletion ---


def test_write_and_update(root: Path) -> None:
    first = write(root, a_message("1"), SENT_AT)
    assert first == root / path_of(a_message(), SENT_AT)
    assert first.read_bytes() == b'MSH|^~\\&|A|\x1b$BE|G"IB\x1b(B^1\rORC|NW|000000000000501\r'
    second = write(root, a_message("2"), SENT_AT + timedelta(seconds=1))
    write(root, a_message("3"), SENT_AT + timedelta(seconds=2))
    assert flags(root) == ["2", "2", "1"]
    assert not second.exists()
    assert (content(root, "2"), content(root, "1")) == (["1", "2"], ["3"])


def test_the_same_bytes_again_change_nothing(root: Path) -> None:
    first = write(root, a_message(), SENT_AT)
    assert write(root, a_message(), SENT_AT + timedelta(seconds=5)) == first
    assert names(root) == [first.name]


def test_a_taken_name_moves_on_by_a_millisecond(root: Path) -> None:
    last_of_the_second = SENT_AT.replace(microsecond=999_000)
    paths = [write(root, a_message(str(n)), last_of_the_second) for n in range(3)]
    assert [path.name.split("_")[4] for path in paths] == [
        "20260401101530999",
        "20260401101531000",
        "20260401101531001",
    ]
    assert (content(root, "2"), content(root, "1")) == (["0", "1"], ["2"])


def test_another_order_is_left_alone(root: Path) -> None:
    write(root, a_message("1"), SENT_AT)
    write(root, replace(a_message("2"), order_no="000000000000502"), SENT_AT)
    assert flags(root) == ["1", "1"]


def test_delete(root: Path) -> None:
    write(root, a_message("1"), SENT_AT)
    write(root, a_message("2"), SENT_AT + timedelta(seconds=1))
    later = SENT_AT + timedelta(seconds=2)
    path = delete(root, a_message("2"), later, control_id="C1")
    assert flags(root) == ["0", "0", "0"]
    assert path.name.endswith("_20260401101532123_01_0")
    segments = parse(decode(path.read_bytes()))
    assert (segments[0].get(10), segments[1].get(1)) == ("C1", "CA")
    # A repeated request finds its own cancel message; a new order may follow.
    assert delete(root, a_message("2"), later, control_id="C1") == path
    write(root, a_message("3"), SENT_AT + timedelta(seconds=3))
    assert flags(root) == ["0", "0", "0", "1"]


def test_nothing_to_delete(root: Path) -> None:
    with pytest.raises(NotFound):
        delete(root, a_message(), SENT_AT, control_id="C1")
    write(root, a_message(), SENT_AT)
    with pytest.raises(NotFound):
        delete(root, replace(a_message(), order_no="000000000000502"), SENT_AT, control_id="C1")
    assert flags(root) == ["1"]


def test_text_that_was_not_folded_leaves_the_former_file(root: Path) -> None:
    write(root, a_message("1"), SENT_AT)
    with pytest.raises(InvalidInput, match="fold first"):
        write(root, a_message("①"), SENT_AT)
    assert content(root, "1") == ["1"]


def test_two_current_files_of_another_writer_are_mended(root: Path) -> None:
    older = write(root, a_message("1"), SENT_AT)
    newer = older.with_name(older.name.replace("101530123", "101530999"))
    newer.write_bytes(older.read_bytes().replace(b"^1\r", b"^2\r"))
    repair(root, "0000012345")
    assert (content(root, "2"), content(root, "1")) == (["1"], ["2"])


# --- what stands beside the root ---


def records(root: Path) -> list[bytes]:
    """Records of the journal in their order, each its first line, CR, and the message."""
    files = sorted(root.with_name("ssmix2-transaction").glob("*/*"), key=lambda path: path.name)
    return [b"#SSMIX," + part for file in files for part in file.read_bytes().split(b"#SSMIX,")[1:]]


def rows(root: Path) -> list[tuple[str, ...]]:
    kept = ("OrderNo", "ProcessingType", "TransactionDatetime", "FileName")
    return [tuple(row[name] for name in kept) for row in index.read(root.with_name("ssmix2-index.sqlite"))]


def test_the_root_holds_nothing_but_messages(root: Path) -> None:
    for n in range(3):
        write(root, a_message(str(n)), SENT_AT + timedelta(seconds=n))
    delete(root, a_message("2"), SENT_AT + timedelta(seconds=9), control_id="C1")
    files = [path for path in root.rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == names(root) and len(files) == 4
    assert {path.name for path in root.parent.iterdir()} == {
        "ssmix2", "ssmix2-work", "ssmix2-transaction", "ssmix2-index.sqlite",
    }  # fmt: skip


def test_every_write_and_deletion_is_journaled(root: Path) -> None:
    sent = replace(a_message("1"), text=a_message("1").text.replace("|A|", "|A|1310000001|"))
    first = write(root, sent, SENT_AT)
    write(root, sent, SENT_AT + timedelta(seconds=1))  # nothing new
    second = write(root, a_message("2"), SENT_AT + timedelta(seconds=2))
    cancel = delete(root, a_message("2"), SENT_AT + timedelta(seconds=3), control_id="C1")
    (journal,) = root.with_name("ssmix2-transaction").glob("*/*")
    assert journal.relative_to(root.parent) == Path("ssmix2-transaction/2026/TR_20260401101530123_00001.DAT")
    written = records(root)
    lines = [record.split(b"\r", 1)[0].decode() for record in written]
    assert lines == [
        "#SSMIX,2.00,1310000001,0000012345,20260401,OML-11,000000000000501,INS,01,20260401101530123",
        "#SSMIX,2.00,-,0000012345,20260401,OML-11,000000000000501,INS,01,20260401101532123",
        "#SSMIX,2.00,-,0000012345,20260401,OML-11,000000000000501,DEL,01,20260401101533123",
    ]
    now = [first.with_name(f"{first.name[:-1]}0"), second.with_name(f"{second.name[:-1]}0"), cancel]
    assert [record.split(b"\r", 1)[1] for record in written] == [path.read_bytes() for path in now]
    assert [header.line() for header in StandardStorage(root).journal.headers()] == lines


def test_a_new_journal_file_on_change_of_day_and_beyond_a_size(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.ssmix2.entries.Journal", lambda folder, work: Journal(folder, work, max_bytes=300))
    days = [0, 0, 0, 1, 0, 365]
    for n, day in enumerate(days):
        write(root, a_message(str(n)), SENT_AT + timedelta(days=day, seconds=n))
    files = sorted(path.relative_to(root.with_name("ssmix2-transaction")) for path in root.parent.glob("*/20*/TR*"))
    assert [str(path) for path in files] == [
        "2026/TR_20260401101530123_00001.DAT",
        "2026/TR_20260401101532123_00002.DAT",
        "2026/TR_20260402101533123_00001.DAT",
        "2027/TR_20270401101535123_00001.DAT",
    ]
    assert sorted(re.findall(rb"\^(.)\r", b"".join(records(root)))) == [b"%d" % n for n in range(6)]


def test_the_index_follows_and_can_be_made_again(root: Path) -> None:
    write(root, a_message("1"), SENT_AT)
    write(root, a_message("2"), SENT_AT + timedelta(seconds=1))
    write(root, replace(a_message("3"), order_no="000000000000502"), SENT_AT + timedelta(seconds=2))
    stem = "0000012345_20260401_OML-11_00000000000050"
    assert rows(root) == [
        ("000000000000501", "INS", "20260401101530123", f"{stem}1_20260401101530123_01_2"),
        ("000000000000501", "INS", "20260401101531123", f"{stem}1_20260401101531123_01_1"),
        ("000000000000502", "INS", "20260401101532123", f"{stem}2_20260401101532123_01_1"),
    ]
    delete(root, a_message("2"), SENT_AT + timedelta(seconds=3), control_id="C1")
    whole = rows(root)
    assert [(row[1], row[3][-1]) for row in whole] == [("INS", "0"), ("INS", "0"), ("DEL", "0"), ("INS", "1")]
    path = root.with_name("ssmix2-index.sqlite")
    row = index.read(path)[0]
    assert (row["VolumeLabel"], row["OutRelDirectory"]) == ("STD", "000/001/0000012345/20260401/OML-11")
    path.unlink()
    assert rebuild_index(root) == 4 and rows(root) == whole


def test_a_damaged_index_stops_writing_until_it_is_made_again(root: Path) -> None:
    write(root, a_message("1"), SENT_AT)
    root.with_name("ssmix2-index.sqlite").write_bytes(b"no database at all" * 500)
    with pytest.raises(Unavailable, match="ssmix2-index"):
        write(root, a_message("2"), SENT_AT + timedelta(seconds=1))
    rebuild_index(root)
    # What was under way is finished: nothing is lost, and nothing doubled.
    assert (content(root, "2"), content(root, "1")) == (["1"], ["2"])
    assert len(records(root)) == len(rows(root)) == 2


def test_a_torn_record_is_cut_off_and_written_again(root: Path) -> None:
    write(root, a_message("1"), SENT_AT)
    (file,) = root.with_name("ssmix2-transaction").glob("*/*")
    whole = file.read_bytes()
    storage = StandardStorage(root)
    # As a power cut leaves it: the note is on the disk, the record is not, or not all of it.
    later = SENT_AT + timedelta(seconds=1)
    write(root, a_message("2"), later)
    both = file.read_bytes()
    for length in range(len(whole), len(both), 7):
        file.write_bytes(both[:length] + b"\0" * (len(both) - length))
        storage.journal.settle()
        assert file.read_bytes() == whole
    write(root, a_message("3"), later + timedelta(seconds=1))
    assert [re.findall(rb"\^(.)\r", record) for record in records(root)] == [[b"1"], [b"3"]]


def test_what_readers_see_of_a_patient(root: Path) -> None:
    write(root, a_message("1"), SENT_AT)
    write(root, a_message("2"), SENT_AT)
    write(root, replace(a_message("3"), order_no="000000000000502"), SENT_AT)
    assert [message.text for message in current_messages(root, "0000012345")] == [
        a_message("2").text,
        a_message("3").text,
    ]
    assert current_messages(root, "9999999999") == []
    assert put(root, a_message("2"), SENT_AT)[1] is False and put(root, a_message("4"), SENT_AT)[1] is True


def test_locks_do_not_grow_with_patients(root: Path) -> None:
    for n in range(STRIPES + 50):
        write(root, replace(a_message("1"), patient_id=f"{n:010}"), SENT_AT)
    assert len(list(root.with_name("ssmix2-work").glob("*.lock"))) <= STRIPES + 1
