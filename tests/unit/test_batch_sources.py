"""The inputs of batches: what is read, what is refused, and that the reading goes on from any place."""

import csv
import io
import json
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ssmix2_files import document, message, section

from app.batch_archives import prepare_folder
from app.batch_sources import Entry, check_input, open_input
from app.errors import InvalidInput, TooLong
from app.intake import MAX_BYTES
from schemas.batch import BatchFormat

HEADER = "id,document_type,department,date,patient.id,patient.family,patient.given,patient.birth_date,text"
DEFAULTS = {"document_type": "progress", "department": "内科", "date": "2026-04-01", "patient.family": "検査",
            "patient.given": "花子"}  # fmt: skip


def note(number: int = 1, **fields: Any) -> dict[str, Any]:
    patient = {"id": "P0001", "family": "検査", "given": "花子"}
    return {"id": f"n-{number}", "document_type": "progress", "department": "内科", "date": "2026-04-01",
            "patient": patient, "text": f"第{number}回。"} | fields  # fmt: skip


def lines(*notes: Any) -> bytes:
    return b"".join((one if isinstance(one, bytes) else json.dumps(one, ensure_ascii=False).encode()) + b"\n" for one in notes)


def read(
    format_: BatchFormat, content: bytes, work: Path = Path("/nonexistent"), *, defaults: dict[str, Any] | None = None,
    max_bytes: int = 10_000_000, start: tuple[int, int] = (0, 0),
) -> list[Entry]:  # fmt: skip
    source = open_input(
        format_, io.BytesIO(content), defaults=defaults or {}, work=work, max_bytes=max_bytes, position=start[0], line=start[1]
    )
    try:
        return list(source)
    finally:
        source.close()


def packed(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def goes_on_anywhere(format_: BatchFormat, content: bytes, work: Path, **options: Any) -> list[Entry]:
    """All entries; and from behind each of them exactly those that follow."""
    whole = read(format_, content, work, **options)
    for number, entry in enumerate(whole):
        assert read(format_, content, work, start=(entry.position, entry.line), **options) == whole[number + 1 :]
    return whole


# --- lines ----------------------------------------------------------------------------------------------------------


def test_lines_are_read_from_any_place_on_and_faulty_ones_are_told(tmp_path: Path) -> None:
    content = lines(note(1), b"", b"{", note(2, text=""), b"x" * (MAX_BYTES + 5), "text", note(3)) + b"\xff"
    found = goes_on_anywhere(BatchFormat.NDJSON, content, tmp_path)
    assert [(entry.place, entry.note and entry.note.id) for entry in found] == [
        ("line 1", "n-1"), ("line 3", None), ("line 4", None), ("line 5", None), ("line 6", None), ("line 7", "n-3"),
        ("line 8", None),
    ]  # fmt: skip
    assert found[2].error == "text: is empty" and "longer than 2,000,000" in str(found[3].error)
    assert found[-1].position == len(content)


def test_what_a_line_leaves_out_is_taken_from_the_defaults() -> None:
    bare = {"id": "n-1", "patient": {"id": "P0001"}, "text": "発熱。"}
    (entry,) = read(BatchFormat.NDJSON, lines(bare), defaults=DEFAULTS)
    assert entry.note and (entry.note.patient.family, entry.note.department) == ("検査", "内科")
    (refused,) = read(BatchFormat.NDJSON, lines(bare | {"patient": "P0001"}), defaults=DEFAULTS)
    assert refused.error == "patient: must be a JSON object"


# --- CSV ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932"])
def test_a_table_in_the_encodings_of_hospitals(encoding: str, tmp_path: Path) -> None:
    rows = [
        'n-1,progress,内科,2026-04-01,P0001,検査,花子,1950-01-02,"発熱、""38.5""℃。\r\n2 行目、ソ能表。"',
        "n-2,progress,内科,2026-04-01,P0002,検査,太郎,,咳。",
        "",
        "n-3,progress,内科,2026-04-31,P0002,検査,太郎,,咳。",
        "n-4,progress",
    ]
    content = "\r\n".join([HEADER, *rows]).encode(encoding)
    found = goes_on_anywhere(BatchFormat.CSV, content, tmp_path)
    assert [entry.place for entry in found] == ["line 2", "line 4", "line 6", "line 7"]
    first, second = found[0].note, found[1].note
    assert first is not None and first.text == '発熱、"38.5"℃。\r\n2 行目、ソ能表。' and str(first.patient.birth_date) == "1950-01-02"
    assert second is not None and second.patient.birth_date is None
    assert [entry.error for entry in found[2:]] == ["date: is not a day of the calendar", "has 2 cells, the header 9"]


def test_a_stray_quote_costs_its_own_line_and_not_the_file() -> None:
    good = "n-{0},progress,内科,2026-04-01,P0001,検査,花子,,{1}"
    stray = good.format(1, '"咳。')
    content = "\n".join([HEADER, stray, *(good.format(n, "咳。") for n in range(2, 5))]).encode()
    found = read(BatchFormat.CSV, content)
    assert [entry.note and entry.note.id for entry in found] == [None, "n-2", "n-3", "n-4"]
    assert "a quote is not closed" in str(found[0].error)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (HEADER + "\rn-1", "carriage return"),
        ("id,text", "lacks the columns document_type, department, date, patient.id"),
        (HEADER + ",id", "names a column twice"),
        ('"id', "a quote is not closed"),
    ],
)
def test_a_header_that_cannot_be_is_refused_at_once(header: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        check_input(BatchFormat.CSV, io.BytesIO(header.encode() + b"\n"), {}, 1000)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=20), min_size=1, max_size=5))
def test_any_text_comes_through_a_table(texts: list[str]) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(HEADER.split(","))
    for number, text in enumerate(texts):
        writer.writerow([f"n-{number}", "progress", "内科", "2026-04-01", "P1", "検", "花", "", f"主訴: {text}"])
    found = read(BatchFormat.CSV, out.getvalue().encode())
    assert len(found) == len(texts)
    for entry, text in zip(found, texts, strict=True):
        assert entry.note is not None and entry.note.text == f"主訴: {text}"


# --- archives -------------------------------------------------------------------------------------------------------


def test_an_archive_of_text_files_with_its_manifest(tmp_path: Path) -> None:
    manifest = "file,id,patient.id,date\n1.txt,n-1,P0001,2026-04-02\n下/二.txt,n-2,P0002,\n"
    content = packed({
        "notes/notes.csv": manifest.encode("cp932"), "notes/1.txt": "発熱。".encode("cp932"),
        "notes/下/二.txt": "咳。".encode(), "notes/3.json": json.dumps(note(3)).encode(), "notes/4.txt": b"\x00\x01",
        "notes/5.pdf": b"%PDF", "__MACOSX/notes/._1.txt": b"x", "notes/.hidden.txt": b"x", "notes/6.txt": "頭痛。".encode(),
    })  # fmt: skip
    found = goes_on_anywhere(BatchFormat.ZIP, content, tmp_path, defaults=DEFAULTS)
    assert [entry.note and (entry.note.id, entry.note.patient.id, str(entry.note.date)) for entry in found] == [
        ("n-1", "P0001", "2026-04-02"), ("n-2", "P0002", "2026-04-01"), ("n-3", "P0001", "2026-04-01"), None, None, None,
    ]  # fmt: skip
    assert found[1].place == "entry 3 (notes/?/?.txt)", "a name in Japanese may be a patient's"
    assert "binary" in str(found[3].error) and found[4].error == "the file is none of .txt and .json"
    assert found[5].error == "patient.id: is missing"


def test_names_of_a_japanese_windows(tmp_path: Path) -> None:
    # Without the UTF-8 flag, which zipfile sets for such names by itself: as Explorer of Windows packs them.
    manifest = "file,id,patient.id\n所.txt,n-1,P0001\n"
    raw = packed({"zz.txt": "発熱。".encode(), "notes.csv": manifest.encode()})
    raw = raw.replace(b"zz.txt", "所.txt".encode("cp932"))
    (entry,) = read(BatchFormat.ZIP, raw, tmp_path, defaults=DEFAULTS)
    assert entry.note is not None and entry.note.id == "n-1"


def test_an_archive_that_would_fill_memory_or_lead_out_is_refused(tmp_path: Path) -> None:
    def refused(content: bytes, reason: str, error: type[InvalidInput] = InvalidInput) -> None:
        with pytest.raises(error, match=reason):
            check_input(BatchFormat.ZIP, io.BytesIO(content), {}, 1_000_000)

    refused(b"no archive", "no ZIP archive")
    refused(packed({"a.txt": b"x"})[:-10], "no ZIP archive")
    refused(packed({"a.txt": bytes(900_000), "b.txt": bytes(900_000)}), "unpacks to 1,800,000", TooLong)
    for name in ("../a.txt", "a/../../b.txt", "/etc/a.txt", "C:/a.txt", "a\\b.txt"):
        refused(packed({"ok.txt": b"x", name: b"x"}), "entry 2 of the archive has a name that leads out")
    link = zipfile.ZipInfo("a.txt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    refused(out.getvalue(), "entry 1 of the archive is a link")


def test_an_entry_that_lies_or_is_damaged_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    whole = packed({"a.txt": "発熱。".encode() * 500, "b.txt": "咳。".encode()})
    fields = DEFAULTS | {"patient.id": "P1"}
    at = whole.index(b"a.txt") + len("a.txt") + 3
    damaged = whole[:at] + bytes(8) + whole[at + 8 :]
    found = read(BatchFormat.ZIP, damaged, tmp_path, defaults=fields)
    assert [entry.note is None for entry in found] == [True, False] and "damaged" in str(found[0].error)
    big = packed({"a.txt": b"x" * (MAX_BYTES + 1), "b.txt": "咳。".encode()})
    found = read(BatchFormat.ZIP, big, tmp_path, defaults=fields)
    assert [entry.note is None for entry in found] == [True, False] and "longer than" in str(found[0].error)
    encrypted = bytearray(packed({"a.txt": b"x"}))
    encrypted[6] |= 1
    encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1
    (entry,) = read(BatchFormat.ZIP, bytes(encrypted), tmp_path, defaults=fields)
    assert "encrypted" in str(entry.error)


# --- folders --------------------------------------------------------------------------------------------------------


def test_a_folder_becomes_lines_that_read_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    (folder / "b").mkdir(parents=True)
    (folder / "notes.csv").write_text("file,patient.id\na.txt,P0001\n")
    (folder / "a.txt").write_bytes("発熱。".encode("cp932"))
    (folder / "b" / "3.json").write_text(json.dumps(note(3)))
    (folder / "b" / "4.txt").write_text("咳。")
    content = b"".join(prepare_folder(folder, DEFAULTS))
    found = goes_on_anywhere(BatchFormat.PREPARED, content, tmp_path)
    assert [entry.note and (entry.note.id, entry.note.text) for entry in found] == [
        ("a", "発熱。"), ("n-3", "第3回。"), None,
    ]  # fmt: skip
    assert found[2].place == "entry 4 (b/4.txt)" and found[2].error == "patient.id: is missing"


def storage(root: Path) -> None:
    message(root / "ssmix2")
    document(root / "ssmix2-extended", section("発熱。"), key="K1")
    document(root / "ssmix2-extended", section("咳。"), key="K2")
    document(root / "ssmix2-extended", "<no", key="K3")


def test_a_storage_as_a_folder_and_as_an_archive_in_it(tmp_path: Path) -> None:
    storage(tmp_path / "out")
    files = {str(path.relative_to(tmp_path)): path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    work = tmp_path / "work"
    zipped = goes_on_anywhere(BatchFormat.SSMIX2, packed(files), work)
    assert not work.exists(), "what was unpacked is removed"
    prepared = read(BatchFormat.PREPARED, b"".join(prepare_folder(tmp_path / "out", {})))
    for found in (zipped, prepared):
        assert [entry.note and (entry.note.text, entry.note.patient.family) for entry in found] == [
            ("発熱。", "見本"), ("咳。", "見本"), None,
        ]  # fmt: skip
    assert zipped[0].place == "0000012345/20260401/11506-3/20260401101530"
    with pytest.raises(InvalidInput, match="no SS-MIX2 storage"):
        read(BatchFormat.SSMIX2, packed({"a/b.txt": b"x"}), work)
    with pytest.raises(InvalidInput, match="has the name of another"):
        read(BatchFormat.SSMIX2, packed({"a": b"x", "a/b": b"x"}), work)
