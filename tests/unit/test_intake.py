"""Notes from files and bodies: what is read, what is refused, and that no reason quotes a note."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.errors import HyojunError, InvalidInput, TooLong
from app.intake import MAX_BYTES, count_notes, decode_text, note_from, parse_json, read_note_text, read_notes, read_text
from schemas.note import MAX_TEXT

TEXT = "糖尿病。ＨｂＡ１ｃ 7.2％\r\n"
SECRET = "秘密"


def note(number: int = 1, **changes: Any) -> dict[str, Any]:
    patient = {"id": "1234567", "family": "検査", "given": "花子", "sex": "female", "birth_date": "1950-01-02"}
    fields: dict[str, Any] = {"id": f"n{number}", "document_type": "progress", "department": "内科",
                              "date": "2026-04-01", "patient": patient, "text": TEXT}  # fmt: skip
    return fields | changes


def line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def test_a_bad_line_does_not_disturb_its_neighbours(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    bad = [
        b"\xff\xfe\x00\n",
        b"{" + SECRET.encode() + b"\n",
        b"[]\n",
        line(note(2, text="")),
        line(note(2, text="x" * (MAX_TEXT + 1))),
        line(note(2, text="x" * (MAX_BYTES * 2))),
        line(note(2, document_type=SECRET)),
        line(note(2, date="2026-13-01")),
        json.dumps(note(2, text=SECRET + "\udfff")).encode() + b"\n",
        json.dumps(note(2, text=SECRET + "\x00")).encode() + b"\n",
        line(note(1)),
        b"[" * 100_000 + b"\n",
    ]
    path.write_bytes(line(note(1)) + b"\n  \n" + b"".join(bad) + line(note(3)).rstrip(b"\n"))
    lines = list(read_notes(path))
    assert [found.note.id for found in lines if found.note] == ["n1", "n3"]
    assert [found.number for found in lines] == [1, *range(4, 4 + len(bad)), 4 + len(bad)]
    reasons = [str(found.error) for found in lines if found.error]
    assert len(reasons) == len(bad)
    assert "UTF-8" in reasons[0] and "not JSON" in reasons[1] and "JSON object" in reasons[2]
    assert "text: has 100,001 characters; at most 100,000" in reasons[4] and "2,000,000 bytes" in reasons[5]
    assert "surrogate" in reasons[8] and "NUL" in reasons[9] and reasons[10] == "id: line 1 has the same one"
    assert SECRET not in "".join(reasons)
    assert count_notes(path) == len(lines)


def test_a_json_file_is_one_note_over_many_lines(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    path.write_text(json.dumps(note(7), ensure_ascii=False, indent=2), encoding="utf-8-sig")
    [found] = read_notes(path)
    assert found.note is not None and found.note.text == TEXT and count_notes(path) == 1


def test_keys_that_a_note_does_not_have_are_ignored() -> None:
    extra = note(facts=[{"kind": "condition"}], patient=note()["patient"] | {"nickname": SECRET})
    assert note_from(extra) == note_from(note())


def test_a_birth_date_may_be_unknown_but_not_wrong() -> None:
    patient = note()["patient"]
    assert note_from(note(patient=patient | {"birth_date": None})).patient.birth_date is None
    assert note_from(note(patient={k: v for k, v in patient.items() if k != "birth_date"})).patient.birth_date is None
    with pytest.raises(InvalidInput, match=r"patient\.birth_date:"):
        note_from(note(patient=patient | {"birth_date": "1950-02-30"}))


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(InvalidInput) as caught:
        note_from(note(date="x", department="\n", patient={"id": "あ"}))
    for path in ("date:", "department:", "patient.id:", "patient.family:", "patient.given:"):
        assert path in str(caught.value)
    assert "あ" not in str(caught.value)


@pytest.mark.parametrize("raw", [b"\xff", b"", b"{", b"[" * 100_000, b"1" * 5_000, b'"\xed\xa0\x80"'])
def test_what_is_not_json_is_invalid(raw: bytes) -> None:
    with pytest.raises(InvalidInput):
        parse_json(raw)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp932", "iso2022_jp_ext"])
def test_plain_text_in_the_encodings_of_the_field(encoding: str) -> None:
    text = "患者：①番\n" + TEXT if encoding != "iso2022_jp_ext" else TEXT
    assert decode_text(text.encode(encoding)) == text


def test_utf_16_of_the_other_byte_order() -> None:
    assert decode_text(b"\xfe\xff" + TEXT.encode("utf-16-be")) == TEXT


@pytest.mark.parametrize("raw", [
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
    b"PK\x03\x04\x14\x00\x06\x00",
    b"\xff\xd8\xff\xe0\x00\x10JFIF",
    bytes(range(256)),
    TEXT.encode("utf-16-le"),  # no byte order mark
    "糖尿病の患者さん".encode("euc_jp"),
    b"\xff\xfe\x00\xd8",  # half of a surrogate pair
    b"abc\x00",
])  # fmt: skip
def test_binary_and_unknown_encodings_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidInput):
        decode_text(raw)


def test_a_text_file_with_its_metadata(tmp_path: Path) -> None:
    path = tmp_path / "memo.txt"
    path.write_bytes(TEXT.encode("cp932"))
    fields = {key: value for key, value in note().items() if key != "text"}
    found = read_note_text(path, fields)
    assert found.note is not None and found.note.text == TEXT
    assert "date" in str(read_note_text(path, fields | {"date": "yesterday"}).error)
    path.write_bytes(b"\x00")
    assert isinstance(read_note_text(path, fields).error, InvalidInput)


@pytest.mark.parametrize(("content", "error"), [(b"", InvalidInput), (b"x" * (MAX_TEXT + 1), TooLong),
                                                (b"x" * (MAX_BYTES + 1), TooLong)])  # fmt: skip
def test_texts_of_the_wrong_size(tmp_path: Path, content: bytes, error: type[HyojunError]) -> None:
    path = tmp_path / "memo.txt"
    path.write_bytes(content)
    with pytest.raises(error):
        read_text(path)


def test_what_the_sender_knows_of_visit_physician_and_recipient_comes_with_the_note() -> None:
    physician = {"id": "D001", "family": "医師", "given": "一郎"}
    stated = note(
        patient=note()["patient"] | {"address": "東京都架空区1-1", "insurance_id": "00012345:あいう:１８７:05"},
        encounter={"encounter_class": "IMP", "start": "2026-03-01", "end": "2026-03-14", "discharge_disposition": "3"},
        physician=physician,
        recipient={"name": "架空診療所", "department": "内科", "physician": physician, "fax": SECRET},
    )
    found = note_from(stated)
    assert found.patient.insurance_id == "00012345:あいう:１８７:05" and found.patient.address == "東京都架空区1-1"
    assert found.encounter is not None and str(found.encounter.end) == "2026-03-14"
    assert found.physician is not None and found.physician.id == "D001"
    assert found.recipient is not None and found.recipient.physician == found.physician


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"encounter": {"encounter_class": SECRET}}, "encounter.encounter_class: must be one of AMB, IMP, EMER, HH, VR"),
        ({"encounter": {"encounter_class": "IMP", "start": 20260301}}, "encounter.start: must be a date YYYY-MM-DD"),
        (
            {"encounter": {"encounter_class": "IMP", "start": "2026-03-02", "end": "2026-03-01"}},
            "encounter: end is before start",
        ),
        ({"recipient": {"name": SECRET, "number": SECRET}}, "recipient.number: must be 10 digits"),
        ({"physician": {"family": "x\n" + SECRET, "given": "y"}}, "physician.family: holds a control character"),
        ({"physician": SECRET}, "physician: must be a JSON object"),
    ],
)
def test_a_fault_in_what_the_sender_knows_is_named(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidInput) as error:
        note_from(note(**change))
    assert reason in str(error.value) and SECRET not in str(error.value)
