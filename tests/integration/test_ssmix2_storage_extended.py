"""The extended storage on a real disk: a note as a CDA R2 document, its folders, update and deletion."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from app.errors import InvalidInput, NotFound
from app.ssmix2 import Facility, cda
from app.ssmix2.extended import current_documents, delete_note, document_of, write_note
from schemas.note import ChartNote, DocumentType, Encounter, EncounterClass, Patient, Practitioner, Sex

SENT_AT = datetime(2026, 4, 1, 1, 15, 30, 123_456, tzinfo=UTC)
FACILITY = Facility("見本病院", institution_number="1310000001")
V3 = {"h": "urn:hl7-org:v3"}


def a_note(text: str = "胃炎", kind: DocumentType = DocumentType.PROGRESS, **more: Any) -> ChartNote:
    patient = Patient(id="0000012345", family="見本", given="花子", sex=Sex.FEMALE, birth_date=date(1958, 3, 14))
    stated: dict[str, Any] = {"patient": patient} | more
    return ChartNote(id="n-1", document_type=kind, department="内科", date=date(2026, 4, 1), text=text, **stated)


def tree(note: ChartNote, facility: Facility = FACILITY) -> ElementTree.Element:
    return ElementTree.fromstring(cda.document(note, facility, "1"))


def text(root: ElementTree.Element) -> str:
    """The section's text, a line break for each `br`."""
    paragraph = root.find(".//h:section/h:text/h:paragraph", V3)
    assert paragraph is not None
    return (paragraph.text or "") + "".join(f"\n{line.tail or ''}" for line in paragraph)


@pytest.mark.parametrize(
    ("kind", "folder"),
    [
        (DocumentType.PROGRESS, "^経過記録^^11506-3^経過記録^LN"),
        (DocumentType.DISCHARGE, "^退院時サマリー^^18842-5^退院時サマリー^LN"),
        (DocumentType.REFERRAL, "^紹介状^^57133-1^紹介状^LN"),
        (DocumentType.EMERGENCY, "^外来診療録^^34108-1^外来診療録^LN"),
        (DocumentType.ADMISSION, "^入院診療録^^34112-3^入院診療録^LN"),
    ],
)
def test_folders(tmp_path: Path, kind: DocumentType, folder: str) -> None:
    note = a_note(kind=kind)
    path, new = write_note(tmp_path / "x-extended", note, FACILITY, SENT_AT, document=document_of(note, 7, "01"))
    code = folder.split("^")[3]
    name = f"0000012345_20260401_{code}_000000000000007_20260401101530123_01_1"
    assert new and path.relative_to(tmp_path) == Path("x-extended/000/001/0000012345/20260401") / folder / name
    assert [file.name for file in path.iterdir()] == ["document.xml"]


def test_every_kind_of_note_has_a_form() -> None:
    assert set(cda.FORMS) == set(DocumentType)


@pytest.mark.parametrize(
    "written",
    [
        "胃炎",
        " <b>&amp;\"'</b> ]]> <!-- \n\n  ２行目\t終\n",
        "#SSMIX,2.00,a,b,c,d,e,f,g,h\nMSH|^~\\&|\n",
        "髙﨑𠮷野①㎎ ﾊﾝｶｸ",
        "\n",
    ],
)
def test_the_text_stands_there_as_it_was_written(written: str) -> None:
    root = tree(a_note(written))
    assert text(root) == written
    # One line of the file, so that no line of a note can look like the first line of a journal's record.
    (line,) = [
        line for line in cda.document(a_note(written), FACILITY, "1").decode().split("\n") if "<paragraph" in line
    ]
    assert "</paragraph>" in line or written == "\n"


def test_other_line_ends_and_forbidden_characters() -> None:
    assert text(tree(a_note("a\r\nb\rc"))) == "a\nb\nc"
    assert text(tree(a_note("a\x00b\x0b\ufffe"))) == "a\ufffdb\ufffd\ufffd"


def test_the_header_says_what_the_sender_states() -> None:
    root = tree(a_note(physician=Practitioner(id="D1", family="佐藤", given="一郎")))
    assert root.tag == "{urn:hl7-org:v3}ClinicalDocument"
    order = [child.tag.split("}")[1] for child in root]
    assert order == [
        "typeId", "id", "code", "title", "effectiveTime", "confidentialityCode", "languageCode", "recordTarget", "author",
        "custodian", "documentationOf", "component",
    ]  # fmt: skip

    def attribute(path: str, name: str) -> str | None:
        node = root.find(path, V3)
        assert node is not None
        return node.get(name)

    assert attribute("h:code", "code") == "11506-3" and attribute("h:effectiveTime", "value") == "20260401"
    assert attribute("h:recordTarget/h:patientRole/h:id", "extension") == "0000012345"
    patient = "h:recordTarget/h:patientRole/h:patient/h:"
    assert attribute(f"{patient}administrativeGenderCode", "code") == "F"
    assert attribute(f"{patient}birthTime", "value") == "19580314"
    assert [node.text for node in root.iterfind(f"{patient}name/*", V3)] == ["見本", "花子"]
    assert [node.text for node in root.iterfind("h:author/*/h:assignedPerson/h:name/*", V3)] == ["佐藤", "一郎"]
    assert attribute("h:custodian/*/*/h:id", "extension") == "1310000001"
    referral = tree(a_note(kind=DocumentType.REFERRAL)).find("h:code", V3)
    assert referral is not None and referral.get("codeSystemName") == "JMIX" and referral[0].get("code") == "57133-1"


def test_the_same_note_is_the_same_document_and_a_corrected_one_another() -> None:
    def id_of(note: ChartNote, key: str = "1") -> str | None:
        node = ElementTree.fromstring(cda.document(note, FACILITY, key)).find("h:id", V3)
        return node.get("root") if node is not None else None

    assert cda.document(a_note(), FACILITY, "1") == cda.document(a_note(), FACILITY, "1")
    assert len({id_of(a_note()), id_of(a_note("corrected")), id_of(a_note(), "2")}) == 3


def test_what_nobody_states_is_unknown() -> None:
    patient = Patient(id="0000012345", family="不明", given="不明")
    root = tree(a_note(kind=DocumentType.DISCHARGE, patient=patient), Facility(""))
    assert root.find(".//h:assignedPerson", V3) is None and root.find(".//h:custodian//h:name", V3) is None
    unknown = [node.tag.split("}")[1] for node in root.iter() if node.get("nullFlavor") == "UNK"]
    # patient, sex, birth; author and his house; custodian; begin and end of the stay
    assert unknown == ["id", "administrativeGenderCode", "birthTime", "id", "id", "id", "low", "high"]
    stay = Encounter(encounter_class=EncounterClass.INPATIENT, start=date(2026, 3, 1), end=date(2026, 3, 9))
    stated = tree(a_note(kind=DocumentType.DISCHARGE, encounter=stay)).find(".//h:serviceEvent", V3)
    assert stated is not None and stated.get("classCode") == "ACCM"
    assert [node.get("value") for node in stated[0]] == ["20260301", "20260309"]


def test_update_and_deletion(tmp_path: Path) -> None:
    root = tmp_path / "ssmix2-extended"
    document = document_of(a_note(), 7)
    first, _ = write_note(root, a_note("1"), FACILITY, SENT_AT, document=document)
    assert write_note(root, a_note("1"), FACILITY, SENT_AT + timedelta(days=1), document=document) == (first, False)
    second, _ = write_note(root, a_note("2"), FACILITY, SENT_AT, document=document)
    assert [path.name[-1] for path in sorted(first.parent.iterdir())] == ["2", "1"]
    assert text(ElementTree.fromstring((second / "document.xml").read_bytes())) == "2"
    assert current_documents(root, "0000012345", {document.order_no}) == [document]
    assert current_documents(root, "0000012345", {"000000000000008"}) == []
    delete_note(root, document, FACILITY, SENT_AT + timedelta(seconds=5))
    assert [path.name[-1] for path in sorted(first.parent.iterdir())] == ["0", "0"]
    assert current_documents(root, "0000012345", {document.order_no}) == []
    with pytest.raises(NotFound):
        delete_note(root, document, FACILITY, SENT_AT)
    (journal,) = (tmp_path / "ssmix2-extended-transaction").glob("*/*")
    lines = [
        line for line in journal.read_bytes().replace(b"\r", b"\n").decode().split("\n") if line.startswith("#SSMIX,")
    ]
    kind = "^経過記録^^11506-3^経過記録^LN"
    assert lines == [
        f"#SSMIX,2.00,1310000001,0000012345,20260401,{kind},000000000000007,{done},-,{time}"
        for done, time in (("INS", "20260401101530123"), ("INS", "20260401101530124"), ("DEL", "20260401101535123"))
    ]


def test_a_patient_id_that_cannot_be_filed(tmp_path: Path) -> None:
    note = a_note(patient=Patient(id="123456", family="見本", given="花子"))
    with pytest.raises(InvalidInput, match="patient id of 7"):
        write_note(tmp_path / "x", note, FACILITY, SENT_AT, document=document_of(note, 7))
    assert list(tmp_path.iterdir()) == []
