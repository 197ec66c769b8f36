"""The worked storage, byte for byte, from what its made-up hospital would state: every kind of message that we write.

OMP-02 and OML-01 lie in the same storage and are not written here: a note says neither rates of infusions nor orders of
tests without results.
"""

from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from published import STANDARDS

from app.ssmix2 import (
    Allergy,
    Drug,
    Facility,
    Message,
    Problem,
    Registration,
    Relative,
    Result,
    Specimen,
    allergy_message,
    decode,
    diagnosis_message,
    encode,
    parse,
    path_of,
    patient_message,
    prescription_message,
    result_messages,
    visit_message,
)
from app.ssmix2.builder import JAPAN
from app.ssmix2.hl7 import render
from schemas.coding import Coding
from schemas.note import ChartNote, DocumentType, Encounter, EncounterClass, Patient, Practitioner, Sex
from schemas.record import Comparator, Dosage, Quantity, Record, ReferenceRange
from schemas.statement import AllergyCategory, Assertion, EvidenceSpan, Field, InfectionResult, Kind, Statement

ROOT = STANDARDS / "ssmix2" / "worked_storage"
pytestmark = [
    pytest.mark.official,
    pytest.mark.skipif(not ROOT.is_dir(), reason="the worked storage is not at hand"),
]

HOSPITAL = Facility(
    "見本病院",
    application="CHARTX",
    identifier="SAMPLEHP",
    department_code="01",
    department_name="内科",
    local_system="99CHT",
)
DAY = date(2026, 4, 1)
HANAKO = Patient(
    id="0000012345",
    family="見本",
    given="花子",
    sex=Sex.FEMALE,
    birth_date=date(1958, 3, 14),
    address="〒100-0000 架空県見本市例町１−２−３",
)
NOTE = ChartNote(
    id="n1",
    document_type=DocumentType.PROGRESS,
    department="内科",
    date=DAY,
    patient=HANAKO,
    text="本文",
    encounter=Encounter(encounter_class=EncounterClass.AMBULATORY, start=DAY),
    physician=Practitioner(id="D0001", family="見本", given="医師"),
)
REGISTER = Registration(
    kana=("ミホン", "ハナコ"),
    phone="00-0000-0000",
    relatives=(Relative("見本", "太郎", ("SPO", "配偶者"), kana=("ミホン", "タロウ")),),
)
LOCAL = "http://hospital.example.com/codes"
MEDIS = "http://medis.or.jp/CodeSystem"
ICD10 = "http://jpfhir.jp/fhir/core/mhlw/CodeSystem/ICD10-2013-full"
USAGE = "http://jami.jp/CodeSystem/MedicationUsage"


def at(time: str) -> datetime:
    """`HH:MM:SS.fff` of the day of the note, in Japan."""
    return datetime.fromisoformat(f"2026-04-01T{time}").replace(tzinfo=JAPAN)


def local(code: str, display: str) -> Coding:
    return Coding(system=LOCAL, code=code, display=display)


def medis(table: str, code: str, display: str) -> Coding:
    return Coding(system=f"{MEDIS}/{table}", code=code, display=display)


def record(kind: Kind, name: str, *codings: Coding, said: dict[str, object] | None = None, **values: object) -> Record:
    said = dict(said or {})
    fields = {Field.NAME: name} | {Field(key): str(said.pop(key)) for key in list(said) if key in set(Field)}
    spans = {field: EvidenceSpan(start=0, end=len(quote), quote=quote) for field, quote in fields.items()}
    statement = Statement.model_validate({"kind": kind, "fields": spans} | said)
    return Record.model_validate({"statement": statement, "display": name, "codings": codings} | values)


def of_lab(name: str, code: str | None, own: Coding | None = None, /, **values: object) -> Record:
    codings = [medis("master-JLAC10-17digits", code, name)] if code else []
    return record(Kind.LAB, name, *codings, local=own, **values)


def amount(value: str, unit: str | None = None, comparator: Comparator | None = None) -> Quantity:
    return Quantity(value=Decimal(value), unit=unit, comparator=comparator)


def limits(low: str, high: str) -> ReferenceRange:
    return ReferenceRange(low=Decimal(low), high=Decimal(high))


def penicillin(own: Coding | None = None) -> Record:
    return record(Kind.ALLERGY, "ペニシリン系", local=own, said={"category": AllergyCategory.MEDICATION})


# --- what the hospital states ---


def basic_data() -> Message:
    profile = [
        of_lab("身長", "9N001000000000001", quantity=amount("152.0", "cm")),
        of_lab("体重", "9N006000000000001", quantity=amount("48.5", "kg")),
        of_lab("血液型-ABO式", "5H010000001999911", text_value="A"),
        of_lab("血液型-Rh式", "5H020000001999911", text_value="+"),
    ]
    return patient_message(
        NOTE,
        HOSPITAL,
        control_id="20260401000000000001",
        sent_at=at("10:15:30.123"),
        registration=REGISTER,
        profile=profile,
        allergies=[penicillin(local("L0007", "ペニシリン系"))],
    )


def reception() -> Message | None:
    moment = at("09:30:00")
    return visit_message(
        NOTE,
        HOSPITAL,
        control_id="20260401000000000002",
        sent_at=moment,
        registration=REGISTER,
        received_at=moment,
    )


def allergies() -> Message | None:
    alinamin = record(
        Kind.ALLERGY,
        "アリナミン",
        medis("master-HOT9", "106824501", "アリナミン"),
        said={"category": AllergyCategory.MEDICATION},
        reactions=("発疹",),
        date="2025-07-10",
    )
    buckwheat = record(
        Kind.ALLERGY,
        "そば",
        medis("master-JLAC10-17digits", "5A1002411023006", "ソバ"),
        said={"category": AllergyCategory.FOOD},
        reactions=("呼吸困難", "蕁麻疹"),
        local=local("L0101", "そば"),
    )
    stated = [
        Allergy(alinamin, "CHTALG0001", severity="MO", sort="AL", reported=DAY),
        Allergy(buckwheat, "CHTALG0002", severity="SV", status="", onset="小学校低学年の頃"),
        Allergy(penicillin(), "CHTALG0003", severity="U", status="U"),
    ]
    sent = {"control_id": "20260401000000000003", "sent_at": at("10:15:30.456"), "registration": REGISTER}
    return allergy_message(NOTE, stated, HOSPITAL, **sent)


def diseases() -> Message | None:
    gastritis = record(
        Kind.CONDITION,
        "胃炎",
        medis("master-disease-keyNumber", "20054174", "胃炎"),
        Coding(system=ICD10, code="K29.7", display="胃炎"),
        said={"onset": "３月下旬より心窩部痛"},
        local=local("L1001", "胃炎"),
        date="2026-03-25",
    )
    pneumonia = record(
        Kind.CONDITION,
        "急性肺炎",
        medis("master-disease-keyNumber", "20058577", "急性肺炎"),
        Coding(system=ICD10, code="J189", display="急性肺炎"),
        said={"assertion": Assertion.PAST},
        date="2026-02-28",
    )
    pain = record(Kind.CONDITION, "機能性腹痛", said={"assertion": Assertion.SUSPECTED})
    placed = {"note": NOTE, "ordered_at": at("10:15:30")}
    problems = [
        Problem(gastritis, "CHTPRB000001", diagnosed=DAY, main=True, order=201, **placed),
        Problem(
            pneumonia,
            "CHTPRB000002",
            diagnosed=date(2026, 3, 1),
            ended=date(2026, 3, 20),
            outcome="F",
            order=202,
            **placed,
        ),
        Problem(pain, "CHTPRB000003", diagnosed=DAY, order=203, **placed),
    ]
    sent = {"control_id": "20260401000000000004", "sent_at": at("10:15:30.789"), "registration": REGISTER}
    return diagnosis_message(NOTE, problems, HOSPITAL, **sent)


def drugs() -> Message | None:
    def drug(
        name: str, hot9: str | None, said: dict[str, object], own: Coding | None = None, **dosage: object
    ) -> Record:
        codings = [medis("master-HOT9", hot9, name)] if hot9 else []
        return record(Kind.PRESCRIPTION, name, *codings, said=said, local=own, dosage=Dosage(**dosage))

    def usage(code: str, display: str) -> tuple[Coding, ...]:
        return (Coding(system=USAGE, code=code, display=display),)

    mucodyne = drug(
        "ムコダイン錠２５０ｍｇ",
        "103835401",
        {"usage": "1日3回毎食後"},
        local("L2001", "ムコダイン錠250mg"),
        dose=Decimal(1),
        dose_unit="錠",
        per_day=3,
        days=3,
        usage=usage("1013044400000000", "内服・経口・１日３回朝昼夕食後"),
    )
    voltaren = drug(
        "ボルタレン錠２５ｍｇ",
        "100795402",
        {"days": "10回分"},
        dose=Decimal(1),
        dose_unit="錠",
        as_needed=True,
        text="１日２回まで",
        usage=usage("1050110020000000", "内服・経口・疼痛時"),
    )
    ointment = drug(
        "ジフラール軟膏０．０５％",
        "106238001",
        {},
        dose=Decimal(2),
        dose_unit="本",
        usage=usage("2B74000000000000", "外用・塗布・１日４回"),
    )
    kampo = drug("漢方薬（名称不明）", None, {"usage": "毎食前"}, text="毎食前")
    stated = [
        Drug(mucodyne, form=("TAB", "錠剤"), start=at("12:00:00"), outside=True),
        Drug(voltaren, start=DAY, outside=True),
        Drug(ointment, form=("OIT", "軟膏、ゲル"), site=("77L", "左手"), start=DAY, outside=True),
        Drug(kampo, route=("PO", "口"), start=DAY),
    ]
    return prescription_message(
        NOTE,
        stated,
        HOSPITAL,
        order=301,
        control_id="20260401000000000005",
        sent_at=at("10:15:30.900"),
        registration=REGISTER,
        ordered_at=at("10:15:30"),
        prescription_no="2026040100301",
        allergies=[penicillin(local("L0007", "ペニシリン系"))],
    )


def results(order: int, control_id: str, time: str, stated: list[Result]) -> Message:
    (message,), issues = result_messages(
        NOTE,
        stated,
        HOSPITAL,
        order=order,
        control_ids=[control_id],
        sent_at=at(time),
        registration=REGISTER,
        reported_at=at(time),
    )
    assert not issues
    return message


def serum(number: str, discipline: str, own: tuple[str, str] | None = None) -> Specimen:
    return Specimen(number, "023", own, at("09:15:00"), discipline)


def chemistry() -> Message:
    blood = serum("000000000009001", "3", ("01", "血清"))
    whole = Specimen("000000000009002", "019", None, at("09:15:00"), "2")
    crp = of_lab(
        "CRP",
        "5C070000002306201",
        local("10221", "CRP"),
        quantity=amount("2.0", "mg/dL"),
        reference_range=limits("0.0", "0.5"),
        flag="H",
    )
    stated = [
        Result(
            of_lab(
                "AST(GOT)",
                "3B035000002327201",
                local("10207", "GOT(AST)"),
                quantity=amount("14", "U/L"),
                reference_range=limits("8", "38"),
            ),
            blood,
        ),
        Result(
            of_lab(
                "クレアチニン",
                "3C015000002327101",
                local("10216", "Cre"),
                quantity=amount("0.53", "mg/dL"),
                reference_range=limits("0.47", "0.79"),
            ),
            blood,
        ),
        Result(crp, blood),
        Result(
            of_lab("フェリチン", None, local("", "フェリチン"), quantity=amount("5.0", "ng/mL", Comparator.LT)), blood
        ),
        Result(
            of_lab(
                "ヘモグロビン",
                "2A030000001928201",
                local("30005", "Hb"),
                quantity=amount("12.8", "g/dL"),
                reference_range=limits("11.3", "15.2"),
            ),
            whole,
        ),
    ]
    return results(501, "20260401000000000007", "11:20:00", stated)


def infections() -> Message:
    blood = serum("000000000009003", "5")

    def verdict(name: str, code: str, own: Coding | None, result: InfectionResult, flag: str | None = None) -> Result:
        coding = medis("master-JLAC10-17digits", code, name)
        made = record(Kind.INFECTION, name, coding, said={"result": result}, local=own, flag=flag)
        return Result(made, blood)

    negative, positive = InfectionResult.NEGATIVE, InfectionResult.POSITIVE
    titre = of_lab("HCV抗体定量", "5F360141002305101", quantity=amount("9.96", "C.O.I."), flag="H")
    covid = record(Kind.INFECTION, "COVID-19抗原", said={"result": negative}, local=local("", "COVID-19抗原"))
    stated = [
        verdict("HBs抗原", "5F016141002305111", local("20101", "HBs抗原"), negative),
        verdict("HCV抗体", "5F360141002305111", local("20102", "HCV抗体"), positive, "異常"),
        Result(titre, blood, unit=("(coi)", "C.O.I.")),
        verdict("TP抗体", "5E075000002311711", None, negative),
        verdict("RPR法", "5E074000002311711", None, negative),
        Result(covid, blood, value=("NEG", "陰性")),
    ]
    return results(601, "20260401000000000008", "11:30:00", stated)


def sodium(value: str, control_id: str, time: str) -> Message:
    made = of_lab(
        "ナトリウム", "3H010000002326101", quantity=amount(value, "mmol/L"), reference_range=limits("138", "145")
    )
    return results(801, control_id, time, [Result(made, serum("000000000009008", "3"))])


def written() -> Iterator[tuple[Message | None, str, str]]:
    """Each message, the time in its file name, and its flag."""
    yield basic_data(), "10:15:30.123", "1"
    yield reception(), "09:30:00", "1"
    yield allergies(), "10:15:30.456", "1"
    yield diseases(), "10:15:30.789", "1"
    yield drugs(), "10:15:30.900", "1"
    yield chemistry(), "11:20:00", "1"
    yield infections(), "11:30:00", "1"
    yield sodium("140", "20260401000000000010", "12:00:00"), "12:00:00", "2"
    yield sodium("142", "20260401000000000011", "13:00:00"), "13:00:00", "1"


@pytest.mark.parametrize(
    "made", list(written()) if ROOT.is_dir() else [], ids=lambda made: str(made[0] and made[0].kind)
)
def test_bytes(made: tuple[Message | None, str, str]) -> None:
    message, time, flag = made
    assert message is not None and not message.issues
    stored = Path(ROOT, path_of(message, at(time), flag)).read_bytes()
    assert encode(message.text).split(b"\r") == stored.split(b"\r")


def test_every_file_of_our_kinds_is_among_them() -> None:
    paths = {str(path_of(m, at(time), flag)) for m, time, flag in written() if m}
    ours = {
        str(p.relative_to(ROOT))
        for p in ROOT.rglob("*_*_*")
        if p.is_file() and p.parent.name not in ("OMP-02", "OML-01")
    }
    assert ours == paths


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*_*_*")), ids=lambda path: path.name)
def test_files_survive_the_parser_byte_for_byte(path: Path) -> None:
    if path.is_file():
        data = path.read_bytes()
        assert encode(render(parse(decode(data)))) == data
