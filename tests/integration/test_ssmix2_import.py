"""Notes read out of SS-MIX2 storages: those that we write, those that others write, and what must be refused."""

import base64
import os
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nho_rules import check_storage
from sqlalchemy import func, select
from ssmix2_files import HANAKO, HEADER, KIND, MSH, PATIENT, PID, SENT_AT, cda, document, message, section
from typer.testing import CliRunner

from app.commands.import_ssmix2 import app
from app.db import Database
from app.ssmix2 import encode, messages, write
from app.ssmix2.builder import Facility
from app.ssmix2.extended import delete_note, document_of, write_note
from app.ssmix2.reading import (
    MAX_FILE_BYTES,
    Document,
    Person,
    Read,
    Unreadable,
    Warn,
    person_of,
    read_documents,
    read_patient,
    read_storage,
)
from app.ssmix2_import import Imported, chart_note, import_storage
from models import Job, Note
from schemas.note import ChartNote, DocumentType, Encounter, EncounterClass, Patient, Practitioner, Sex

DEPARTMENTS = {"01": ("内科",), "04": ("神経内科", "脳神経内科")}
TEXT = 'S) 頭痛が続く。\n\nO) 体温 36.5 ℃ <正常> & "良好"\n\tA) 片頭痛 ①㎎ 髙橋 😀\nP) 経過をみる'


def a_note(document_type: DocumentType = DocumentType.PROGRESS, text: str = TEXT, **more: object) -> ChartNote:
    patient = Patient(
        id=PATIENT,
        family="見本",
        given="花子",
        sex=Sex.FEMALE,
        birth_date=date(1958, 3, 14),
        address="架空県見本市１−２−３",
    )
    return ChartNote.model_validate(
        {"id": "n1", "document_type": document_type, "department": "脳神経内科", "date": date(2026, 4, 1),
         "patient": patient, "text": text} | more
    )  # fmt: skip


def documents(root: Path, standardized: Path | None = None) -> list[Document]:
    found = list(read_documents(root, standardized))
    assert all(isinstance(one, Document) for one in found), found
    return [one for one in found if isinstance(one, Document)]


def only(found: Iterator[Document | Unreadable] | Iterator[Read | Unreadable]) -> str:
    """The reason of the one thing found, which is unreadable."""
    (one,) = list(found)
    assert isinstance(one, Unreadable)
    return one.reason


# --- the standardized storage -----------------------------------------------------------------------------------------


def test_patient_of_a_valid_message(tmp_path: Path) -> None:
    message(tmp_path, time="20260301000000000", flag="2")
    message(tmp_path, MSH + PID.replace("花子", "華子"), time="20260501000000000")
    message(tmp_path, time="20260401000000000", flag="0")
    (read,) = list(read_storage(tmp_path))
    assert isinstance(read, Read)
    assert (read.kind, read.day, read.order_no, read.flag, read.warnings) == ("ADT-00", None, "9" * 15, "1", ())
    assert read.sent_at == datetime(2026, 4, 30, 15, tzinfo=UTC)
    assert person_of(read).given == "華子"
    assert read_patient(tmp_path, PATIENT) == person_of(read)
    assert len(list(read_storage(tmp_path, flags="012"))) == 3
    assert read_patient(tmp_path, "0000099999") is None


def test_patient_is_read_whole(tmp_path: Path) -> None:
    message(tmp_path)
    assert read_patient(tmp_path, PATIENT) == HANAKO


@pytest.mark.parametrize(
    ("change", "warnings"),
    [
        (lambda data: data + b"\x1c", ()),
        (lambda data: data + b"\x1c\r", ()),
        (lambda data: b"\x0b" + data, ()),
        (lambda data: data.replace(b"\r", b"\n"), (Warn.LINE_FEED,)),
        (lambda data: data.replace(b"\r", b"\r\n"), (Warn.LINE_FEED,)),
        (lambda data: data[:-1], (Warn.NO_END,)),
        (lambda data: data.replace(b"~ISO IR87", b"~ISOIR87"), (Warn.CHARACTER_SET,)),
        (lambda data: data.replace(b"~ISO IR87", b""), (Warn.CHARACTER_SET,)),
    ],
)
def test_what_others_write_is_read_with_a_warning(tmp_path: Path, change: object, warnings: tuple[Warn, ...]) -> None:
    assert callable(change)
    message(tmp_path, change(encode(MSH + PID)))
    (read,) = list(read_storage(tmp_path))
    assert isinstance(read, Read), read
    assert read.warnings == warnings
    assert person_of(read) == HANAKO


def test_characters_of_windows_are_read_with_a_warning(tmp_path: Path) -> None:
    # ① is cell 1 of NEC row 13.
    name = b"\x1b$B\x2d\x21\x1b(B"
    message(tmp_path, encode(MSH + PID).replace(encode("見本"), name))
    (read,) = list(read_storage(tmp_path))
    assert isinstance(read, Read)
    assert read.warnings == (Warn.WINDOWS,)
    assert person_of(read).family == "①"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "begins with MSH"),
        (b"\xef\xbb\xbf" + encode(MSH + PID), "ISO-2022-JP"),
        ((MSH + PID).encode("utf-8"), "ISO-2022-JP"),
        ((MSH + PID).encode("cp932"), "ISO-2022-JP"),
        (encode(MSH + PID)[:60], "cut off"),
        (encode(MSH + PID).replace(b"ADT^A08", b"ADT\n^A08"), "no segment"),
        (encode(MSH + PID)[40:], "begins with MSH"),
        (random.Random(7).randbytes(64) + b"\xff", "ISO-2022-JP"),
    ],
)
def test_damaged_messages(tmp_path: Path, data: bytes, reason: str) -> None:
    message(tmp_path, data)
    message(tmp_path, (MSH + PID).replace("12345", "12346"), patient="0000012346")
    bad, good = read_storage(tmp_path)
    assert isinstance(good, Read)
    assert isinstance(bad, Unreadable)
    assert reason in bad.reason
    assert isinstance(read_patient(tmp_path, PATIENT), Unreadable)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**16), st.binary(max_size=4), st.integers(0, 6), st.booleans())
def test_no_damage_ends_the_reading(tmp_path: Path, at: int, put: bytes, cut: int, message_too: bool) -> None:
    """Some bytes cut out of a message and of a document, or put into them."""
    for file, data in (("m", encode(MSH + PID)), ("d", section("本文<br/>二行").encode())):
        place = at % len(data)
        damaged = data[:place] + put + data[place + cut :] if message_too else data[:place]
        root = tmp_path / file
        if file == "m":
            message(root, damaged)
            (found,) = list(read_storage(root))
            if isinstance(found, Read):
                read_patient(root, PATIENT)
        else:
            path = root / "000/001" / PATIENT / "20260401" / KIND
            if not path.exists():
                document(root, b"")
            next(path.iterdir()).joinpath("main_document.xml").write_bytes(damaged)
            (one,) = list(read_documents(root))
            if isinstance(one, Document):
                assert one.patient_id == PATIENT


def test_a_truncated_kanji_is_no_text(tmp_path: Path) -> None:
    data = encode(MSH + PID)
    message(tmp_path, data[: data.index(b"\x1b$B") + 4])
    assert "ISO-2022-JP" in only(read_storage(tmp_path))


def test_wrong_names_links_pipes_and_long_files_are_refused(tmp_path: Path) -> None:
    good = message(tmp_path)
    folder = good.parent
    (folder / "見本花子\n\x1b[31m.txt").write_bytes(b"")
    (folder / good.name.replace(PATIENT, "0000054321")).write_bytes(good.read_bytes())
    (folder / good.name.replace("_2026", "_1999")).symlink_to(good)
    os.mkfifo(folder / good.name.replace("_2026", "_1998"))
    (folder / good.name.replace("_20260401", "_20269901")).write_bytes(good.read_bytes())
    with (folder / good.name.replace("_2026", "_1997")).open("wb") as huge:
        huge.truncate(MAX_FILE_BYTES + 1)
    (tmp_path / "000" / "999").symlink_to(tmp_path / "000" / "001")
    (tmp_path / "000" / "001" / "0000010000").mkdir()
    (tmp_path / "000" / "001" / "0000010000" / "today").mkdir()
    (tmp_path / "000" / "001" / "0000010000" / "today" / "ADT-00").mkdir()
    (tmp_path / "readme").write_text("x")
    (folder / ".under-way").write_text("x")
    found = list(read_storage(tmp_path))
    assert [one for one in found if isinstance(one, Read)] != []
    reasons = {one.path.rsplit("/", 1)[-1]: one.reason for one in found if isinstance(one, Unreadable)}
    assert len(reasons) == 9, reasons
    assert reasons["?" * 7 + "31m.txt"].startswith("the file name is not")
    expected = [
        "another patient",
        "is a link",
        "regular file",
        "calendar",
        "longer than",
        "neither YYYYMMDD",
        "no folder",
    ]
    assert [part for part in expected if not any(part in reason for reason in reasons.values())] == []
    assert not any("見本" in path for path in reasons)


def test_another_patient_inside_is_refused(tmp_path: Path) -> None:
    message(tmp_path, (MSH + PID).replace("12345", "54321"))
    found = read_patient(tmp_path, PATIENT)
    assert isinstance(found, Unreadable)
    assert "another patient" in found.reason


def test_kana_alone_null_and_unknown_values(tmp_path: Path) -> None:
    message(tmp_path, MSH + 'PID|1||0000012345^^^^PI||ミホン^ハナコ||""|N\r')
    assert read_patient(tmp_path, PATIENT) == Person(PATIENT, "ミホン", "ハナコ", "ミホン", "ハナコ")


# --- the extended storage ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DocumentType)
def test_our_documents_come_back(tmp_path: Path, kind: DocumentType) -> None:
    more = {"physician": Practitioner(id="D1", family="例", given="次郎")}
    if kind is DocumentType.DISCHARGE:
        more |= {
            "encounter": Encounter(
                encounter_class=EncounterClass.INPATIENT, start=date(2026, 3, 1), end=date(2026, 4, 1)
            )
        }
    note = a_note(kind, **more)
    write_note(
        tmp_path,
        note,
        Facility("見本 病院", institution_number="1310000001"),
        SENT_AT,
        document=document_of(note, 7, "04"),
    )
    (found,) = documents(tmp_path)
    read = chart_note(found, DEPARTMENTS)
    assert (read.text, read.patient, read.date, read.department, read.physician) == (
        note.text, note.patient, note.date, note.department, note.physician,
    )  # fmt: skip
    if kind is DocumentType.DISCHARGE:
        assert read.encounter == note.encounter
    if kind in (DocumentType.PROGRESS, DocumentType.REFERRAL, DocumentType.DISCHARGE):
        assert read.document_type is kind
    else:
        assert read.document_type is DocumentType.PROGRESS


def test_only_the_valid_version_comes_back(tmp_path: Path) -> None:
    facility = Facility("見本病院", institution_number="1310000001")
    first, second = a_note(), a_note(text="直した本文")
    for note in (first, second):
        write_note(tmp_path, note, facility, SENT_AT, document=document_of(note, 7))
    (found,) = documents(tmp_path)
    assert found.text == "直した本文"
    ids = {chart_note(one, {}).id for one in read_documents(tmp_path, flags="12") if isinstance(one, Document)}
    assert ids == {f"{PATIENT}-20260401-11506-3-000000000000007"}
    delete_note(tmp_path, document_of(second, 7), facility, SENT_AT)
    assert documents(tmp_path) == []


def test_the_patient_comes_from_adt_00_else_from_the_header(tmp_path: Path) -> None:
    document(tmp_path / "ext", section("本文"))
    (found,) = documents(tmp_path / "ext")
    assert (found.person.family, found.person.given, found.person.given_kana) == ("見本", "ハナ", "ハナ")
    message(tmp_path / "std")
    (found,) = documents(tmp_path / "ext", tmp_path / "std")
    assert found.person == HANAKO


@pytest.mark.parametrize(
    ("narrative", "text"),
    [
        ("本文", "本文"),
        ("\n      1行目<br/>2行目<br/>\n      <br/>4行目\n    ", "1行目\n2行目\n\n4行目"),
        ("<paragraph>一</paragraph>\n  <paragraph>二</paragraph>", "一\n二"),
        ("前<list><item>甲</item><item>乙</item></list>後", "前\n甲\n乙\n後"),
        ("<table><tbody><tr><td>WBC</td><td>6400</td></tr><tr><td>Hb</td><td>10.6</td></tr></tbody></table>",
         "WBC\t6400\nHb\t10.6"),
        ("<content>太字</content>の&lt;後&gt;", "太字の<後>"),
        ("1行目\n2行目", "1行目\n2行目"),
    ],
)  # fmt: skip
def test_narrative_text(tmp_path: Path, narrative: str, text: str) -> None:
    document(tmp_path, section(narrative))
    assert documents(tmp_path)[0].text == text


def test_titles_of_sections_are_text_and_the_document_s_own_is_not(tmp_path: Path) -> None:
    sections = "".join(
        f"<component><section><title>{title}</title><text>{text}</text></section></component>"
        for title, text in (("経過記録", "前書き"), ("主訴", "頭痛"), ("処方", "なし"))
    )
    document(tmp_path, cda(f"<structuredBody>{sections}</structuredBody>", "<title>経過記録</title>" + HEADER))
    assert documents(tmp_path)[0].text == "前書き\n主訴\n頭痛\n処方\nなし"


def test_plain_text_and_a_body_in_base64(tmp_path: Path) -> None:
    document(tmp_path, "平文\r\n二行".encode("cp932"), key="K1", file="main_document.txt")
    body = base64.b64encode("本文\n二行".encode()).decode()
    document(
        tmp_path,
        cda(f'<nonXMLBody><text mediaType="text/plain" representation="B64">{body}</text></nonXMLBody>'),
        key="K2",
    )
    std = tmp_path.with_name(tmp_path.name + "-std")
    message(std)
    assert [one.text for one in documents(tmp_path, std)] == ["平文\n二行", "本文\n二行"]
    assert "who the patient is" in next(one.reason for one in read_documents(tmp_path) if isinstance(one, Unreadable))


ENTITIES = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
BOMB = f'<?xml version="1.0"?>{ENTITIES}<ClinicalDocument xmlns="urn:hl7-org:v3">&b;</ClinicalDocument>'
EXTERNAL = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><ClinicalDocument xmlns="urn:hl7-org:v3">&a;</ClinicalDocument>'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (BOMB, "document type (DTD)"),
        (BOMB.replace('version="1.0"', 'version="1.0" encoding="UTF-16"').encode("utf-16"), "document type (DTD)"),
        (EXTERNAL, "document type (DTD)"),
        ("<a>" * 100_000, "nested deeper"),
        ("<ClinicalDocument", "is not XML"),
        (section("本文")[:-30], "is not XML"),
        ('<?xml version="1.0" encoding="x-none"?><a/>', "is not XML"),
        ("<html/>", "no CDA document|not a CDA document"),
        (section("  "), "holds no text"),
        (cda('<nonXMLBody><text mediaType="application/pdf">x</text></nonXMLBody>'), "no text (mediaType)"),
        (cda('<nonXMLBody><text representation="B64">&#x20;!</text></nonXMLBody>'), "base64"),
        (section("本文").replace("0000012345", "0000054321"), "another patient"),
        (b"\x00" * (MAX_FILE_BYTES + 1), "longer than"),
        ("", "is not XML"),
    ],
    ids=lambda value: value[:25] if isinstance(value, str) else "bytes",
)
def test_damaged_documents(tmp_path: Path, content: str | bytes, reason: str) -> None:
    document(tmp_path, content)
    document(tmp_path, section("良い"), key="K2")
    bad, good = read_documents(tmp_path)
    assert isinstance(good, Document)
    assert isinstance(bad, Unreadable)
    assert any(part in bad.reason for part in reason.split("|")), bad.reason


def test_links_wrong_names_and_two_main_documents_are_refused(tmp_path: Path) -> None:
    good = document(tmp_path, section("良い"), key="K0")
    other = document(tmp_path, section("x"), key="K1")
    (other / "main_document.xml").unlink()
    (other / "main_document.xml").symlink_to(good / "main_document.xml")
    document(tmp_path, section("x"), key="K2", file="a.xml").joinpath("b.xml").write_text(section("x"))
    document(tmp_path, section("x"), key="K3", department="1234")
    document(tmp_path, section("x"), key="K4", day="20260230")
    (good.parent / good.name.replace("K0", "K5")).symlink_to(good)
    found = list(read_documents(tmp_path))
    reasons = sorted(one.reason[:24] for one in found if isinstance(one, Unreadable))
    assert len([one for one in found if isinstance(one, Document)]) == 1
    assert reasons == sorted(
        ["is a link", "is a link, or no folder", "2 files could be the main"[:24], "the folder name is not <patient>"[:24],
         "the day of the path is not"[:24]]
    )  # fmt: skip


def test_other_kinds_and_older_days_are_passed_over(tmp_path: Path) -> None:
    document(tmp_path, b"MSH|", kind="L-OBSERVATIONS^OBSERVATIONS^99ZL01^^^", file="main_document.hl7")
    document(tmp_path, section("前"), key="K1", day="20260331")
    document(tmp_path, section("後"), key="K2", kind="L1^外来^99ZZZ^34108-1^外来診療録^LN")
    assert [one.text for one in read_documents(tmp_path, since=date(2026, 4, 1)) if isinstance(one, Document)] == ["後"]


def test_what_nobody_states_is_not_made_up(tmp_path: Path) -> None:
    document(tmp_path, section("本文"), department="-", key="鍵_1", kind=KIND.replace("11506-3", "34112-3"))
    (found,) = documents(tmp_path)
    note = chart_note(found, DEPARTMENTS)
    assert (found.key, note.department, note.physician, note.patient.insurance_id) == ("鍵_1", "不明", None, None)
    assert note.encounter == Encounter(encounter_class=EncounterClass.INPATIENT)
    assert note.id.startswith(f"{PATIENT}-20260401-34112-3-")


# --- into the database ------------------------------------------------------------------------------------------------


def imported(root: Path, database: Database | None) -> list[Imported]:
    return list(import_storage(root / "std", root / "ext", source="his", database=database, departments=DEPARTMENTS))


def storages(root: Path) -> None:
    message(root / "std")
    for number in range(3):
        document(root / "ext", section(f"本文{number}"), key=f"K{number}")
    document(root / "ext", BOMB, key="K9")


def test_import_is_idempotent_and_goes_on_after_a_kill(tmp_path: Path, fresh_database: Database) -> None:
    storages(tmp_path)
    assert [one.created for one in imported(tmp_path, None)] == [None] * 4
    begun = import_storage(tmp_path / "std", tmp_path / "ext", source="his", database=fresh_database, departments={})
    assert next(begun).created
    begun.close()
    again = list(
        import_storage(tmp_path / "std", tmp_path / "ext", source="his", database=fresh_database, departments={})
    )
    assert [one.created for one in again] == [False, True, True, None]
    assert [one.error is None for one in again] == [True, True, True, False]
    with fresh_database.session_scope() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 3
        rows = session.scalars(select(Note).order_by(Note.external_id)).all()
        assert [(row.text, row.patient_family, row.patient_given, row.source) for row in rows] == [
            (f"本文{number}", "見本", "花子", "his") for number in range(3)
        ]


def test_command(
    tmp_path: Path, fresh_database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    storages(tmp_path)
    monkeypatch.setenv("DATABASE_URL", fresh_database_url)
    words = ["ssmix2", str(tmp_path / "std"), "--extended", str(tmp_path / "ext")]
    dry = CliRunner().invoke(app, [*words, "--dry-run"])
    assert dry.exit_code == 1
    assert "read 3, failed 1" in dry.stdout
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert "new 3, there already 0, failed 1" in done.stdout
    assert "DTD" in done.stderr
    (tmp_path / "ext/000/001" / PATIENT / "20260401" / KIND / f"{PATIENT}_20260401_11506-3_K9_20260401101530123_01_1" /
     "main_document.xml").write_text(section("直した"))  # fmt: skip
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 0
    assert "new 1, there already 3, failed 0" in again.stdout
    for shown in (done.stdout, done.stderr, again.stderr, caplog.text):
        assert not any(mark in shown for mark in ("見本", "花子", "ミホン", "本文"))


def test_a_file_with_line_feeds_is_named_and_read(tmp_path: Path) -> None:
    path = message(tmp_path / "std", encode(MSH + PID).replace(b"\r", b"\n"))
    document(tmp_path / "ext", section("本文"))
    told, note = imported(tmp_path, None)
    assert (told.path, told.warning) == (path.relative_to(tmp_path / "std").as_posix(), "segments end with LF")
    assert (note.note_id, note.error) == (f"{PATIENT}-20260401-11506-3-K1", None)
    done = CliRunner().invoke(app, ["ssmix2", str(tmp_path / "std"), "--extended", str(tmp_path / "ext"), "--dry-run"])
    assert (done.exit_code, done.stdout) == (0, "nothing was stored; read 1, failed 0\n")
    assert "read all the same: segments end with LF" in done.stderr


@pytest.mark.parametrize(
    ("words", "reason"),
    [(["--since", "1.4.2026"], "--since"), (["--extended", "/nowhere"], "is not a folder"), ([], "no text document")],
)
def test_command_says_what_to_change(tmp_path: Path, words: list[str], reason: str) -> None:
    message(tmp_path)
    done = CliRunner().invoke(app, ["ssmix2", str(tmp_path), "--dry-run", *words])
    assert done.exit_code == 1
    assert reason in str(done.exception)


def test_the_folder_of_an_export_and_nothing_since(tmp_path: Path) -> None:
    message(tmp_path / "ssmix2")
    document(tmp_path / "ssmix2-extended", section("本文"))
    (tmp_path / "ssmix2-work").mkdir()
    done = CliRunner().invoke(app, ["ssmix2", str(tmp_path), "--dry-run"])
    assert (done.exit_code, done.stdout) == (0, "nothing was stored; read 1, failed 0\n")
    late = CliRunner().invoke(app, ["ssmix2", str(tmp_path), "--dry-run", "--since", "2100-01-01"])
    assert (late.exit_code, late.stdout) == (0, "nothing was stored; read 0, failed 0\n")


def test_both_storages_of_ours_come_back(
    tmp_path: Path, fresh_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", fresh_database_url)
    note = a_note()
    facility = Facility("見本病院", institution_number="1310000001")
    found, issues = messages(note, (), facility=facility, sent_at=SENT_AT, source="his")
    assert [issue for issue in issues if issue.severity == "error"] == []
    for one in found:
        write(tmp_path / "ssmix2", one, SENT_AT)
    assert check_storage(tmp_path / "ssmix2") == []
    write_note(tmp_path / "ssmix2-extended", note, facility, SENT_AT, document=document_of(note, 7))
    person = read_patient(tmp_path / "ssmix2", PATIENT)
    assert isinstance(person, Person)
    assert (person.family, person.given, person.sex, person.birth_date, person.address) == (
        note.patient.family, note.patient.given, note.patient.sex, note.patient.birth_date, note.patient.address,
    )  # fmt: skip
    done = CliRunner().invoke(app, ["ssmix2", str(tmp_path / "ssmix2"), "--source", "copy"])
    assert (done.exit_code, done.stdout.strip()) == (0, "new 1, there already 0, failed 0")
    database = Database(fresh_database_url)
    with database.session_scope() as session:
        (row,) = session.scalars(select(Note)).all()
        assert (row.text, row.source, row.department) == (note.text, "copy", note.department)
    database.dispose()
