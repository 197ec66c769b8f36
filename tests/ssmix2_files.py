"""Files of SS-MIX2 storages as other systems write them, for tests of reading; the patient is made up."""

from datetime import UTC, date, datetime
from pathlib import Path

from app.ssmix2 import encode
from app.ssmix2.reading import Person
from schemas.note import Sex

PATIENT = "0000012345"
SENT_AT = datetime(2026, 4, 1, 1, 15, 30, 123_000, tzinfo=UTC)
MSH = (
    "MSH|^~\\&|CHARTX|SAMPLEHP|GW|RCV|20260401101530.123||ADT^A08^ADT_A01|1|P|2.5||||||~ISO IR87||ISO 2022-1994|"
    "SS-MIX2_1.20^SS-MIX2^1.2.392.200250.2.1.100.1.2.120^ISO\r"
)
PID = (
    "PID|0001||0000012345^^^^PI||見本^花子^^^^^L^I~ミホン^ハナコ^^^^^L^P||19580314|F|||"
    "^^^^100-0000^JPN^H^架空県見本市１−２−３\r"
)
HANAKO = Person(PATIENT, "見本", "花子", "ミホン", "ハナコ", Sex.FEMALE, date(1958, 3, 14), "架空県見本市１−２−３")
HEADER = (
    '<recordTarget><patientRole><id extension="0000012345"/><patient>'
    '<name use="SYL"><family>ミホン</family><given>ハナ</given></name>'
    '<name use="IDE"><family>見本</family><given>ハナ</given></name>'
    '<administrativeGenderCode code="F"/><birthTime value="19580314"/></patient></patientRole></recordTarget>'
)
KIND = "^経過記録^^11506-3^経過記録^LN"


def message(root: Path, text: str | bytes = MSH + PID, *, patient: str = PATIENT, time: str = "20260401101530123",
            flag: str = "1", name: str | None = None) -> Path:  # fmt: skip
    folder = root / patient[:3] / patient[3:6] / patient / "-" / "ADT-00"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (name or f"{patient}_-_ADT-00_{'9' * 15}_{time}_-_{flag}")
    path.write_bytes(text if isinstance(text, bytes) else encode(text))
    return path


def document(root: Path, content: str | bytes, *, patient: str = PATIENT, day: str = "20260401", kind: str = KIND,
             key: str = "K1", time: str = "20260401101530123", department: str = "01", flag: str = "1",
             file: str = "main_document.xml") -> Path:  # fmt: skip
    code = kind.split("^")[3]
    folder = root / patient[:3] / patient[3:6] / patient / day / kind
    folder /= f"{patient}_{day}_{code}_{key}_{time}_{department}_{flag}"
    folder.mkdir(parents=True)
    (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def cda(body: str, header: str = HEADER) -> str:
    return f'<?xml version="1.0"?><ClinicalDocument xmlns="urn:hl7-org:v3">{header}<component>{body}</component></ClinicalDocument>'


def section(text: str) -> str:
    return cda(f"<structuredBody><component><section><text>{text}</text></section></component></structuredBody>")
