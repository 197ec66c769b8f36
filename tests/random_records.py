"""Random notes with random records: everything that a sender may state and a reader may have found, however odd.

One `random.Random` decides it all, so that a seed repeats a case. Codings are those of real code systems; texts hold what
breaks programs: half-width katakana, full-width spaces, control and format characters, noncharacters, emoji, markup.
"""

from datetime import UTC, date, datetime
from decimal import Decimal
from random import Random
from typing import Any

from app.fhir import Facility, ProvenanceSource, build_resources, clins, codes, collection, documents
from schemas.coding import Coding
from schemas.note import (
    AdmitSource,
    ChartNote,
    DischargeDisposition,
    DocumentType,
    Encounter,
    EncounterClass,
    Patient,
    Practitioner,
    Recipient,
    Sex,
)
from schemas.record import Comparator, Dosage, Modifier, ModifierPosition, Quantity, Record, ReferenceRange
from schemas.statement import (
    FIELDS,
    Action,
    AllergyCategory,
    Assertion,
    EvidenceSpan,
    Field,
    InfectionResult,
    Kind,
    Statement,
)

NOW = datetime(2026, 5, 2, 0, 30, tzinfo=UTC)
RUN = ProvenanceSource(run_id="r", software_version="0", model="m", prompt="p", grammar="g", terminology="t")

_ODD = [
    "\u3000", "\x00", "\n", "\t", " ", "\u200b", "\ufeff", "\u2028", "\ufffe", "\uffff", "\x7f", "\u202e", "ｱ", "ﾊﾟ", "①",
    "㎎", "𠮷", "👨‍👩‍👧", "/", "-", "^", "<", "&", '"', "\\", "Ａ", "１", "|", "#",
]  # fmt: skip
_WORDS = [
    "高血圧症", "左", "ALB", "HBs抗原", "アムロジピンOD錠5mg", "鶏卵", "1錠", "1日3回毎食後", "28日分", "蕁麻疹", "母方の祖母",
    "7.2", "陽性", "2+", "H", "3.5-5.0", "疼痛時", "塗布", "mg/日", "尿糖",
]  # fmt: skip
_NUMBERS = ["0", "1", "1.10", "0.5", "1E+3", "1e-10", "-1", "99999999999999999999.123456789"]
_UNITS = ["g/dL", "錠", "mg", "mg/日", "ｍＬ", "×10^4/μL", "本", "包/回", "単位/週", "\u3000", "", "\x00", "COI"]
_DATES = ["2024", "2024-05", "2024-02-29", "2023-02-29", "0000", "9999-12-31", "2020-01-01", "", "２０２４"]

_DISEASE = [
    Coding(system=codes.DISEASE_ORDER[0], code="20061590", display="高血圧症", version="5.17"),
    Coding(system=codes.DISEASE_ORDER[2], code="8833421", display="高血圧症"),
    Coding(system=codes.ICD10, code="I10", display="高血圧症"),
]
_MODIFIER = [Coding(system=system, code=str(n), display="左") for n, system in enumerate(codes.MODIFIER_SYSTEMS)]
_ALLERGEN = [
    *codes.UNCODED_ALLERGEN.values(),
    Coding(
        system="http://jpfhir.jp/fhir/core/CodeSystem/JP_JfagyFoodAllergen_CS", code="J9FA21110000", display="鶏卵"
    ),
    Coding(system="http://capstandard.jp/iyaku.info/CodeSystem/YJ-code", code="2171022F1029", display="アムロジピン"),
]
_DRUG = [Coding(system=s, code="217", display="アムロジピン") for s in sorted(codes.SINGLE_DRUG_SYSTEMS)] * 2
_USAGE = [
    Coding(system=codes.USAGE_EPRESCRIPTION, code="1013044400000000", display="１日３回毎食後服用"),
    Coding(system=codes.USAGE_EPRESCRIPTION, code="2A73000000000000", display="塗布"),
    Coding(system=codes.USAGE_JAMI, code="1013044400000000", display="１日３回毎食後"),
]
_LAB = "http://jpfhir.jp/fhir/clins/CodeSystem/JLAC10/JP_CLINS_ObsLabResult_"
_TEST = [
    Coding(system=f"{_LAB}CoreLabo_CS", code="3A015000002399901", display="ALB"),
    Coding(system=f"{_LAB}InfectionLabo_CS", code="5F016141002399911", display="HBs抗原(定性)"),
]
_LOCAL = [Coding(system="http://x", code=code, display=shown) for code, shown in (("1_23", "ｱﾙﾌﾞﾐﾝ　血清"), ("a b", " "))]
_CODINGS = {
    Kind.CONDITION: _DISEASE, Kind.ALLERGY: _ALLERGEN, Kind.PRESCRIPTION: _DRUG, Kind.LAB: _TEST, Kind.INFECTION: _TEST,
}  # fmt: skip


class RandomNote:
    """A note, its records and its facility. `complete`: the sender states all that JP-CLINS demands."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.complete = random.random() < 0.6
        self._parts: list[str] = []
        self.records = [self._record() for _ in range(random.randint(0, 7))]
        self.facility = self._facility()
        self.note = self._note("".join(self._parts) or "x")

    def _maybe(self, value: Any, odds: float = 0.6) -> Any:
        return value if self.random.random() < odds else None

    def _stated(self, value: Any) -> Any:
        return value if self.complete else self._maybe(value)

    def _text(self, most: int = 60) -> str:
        pick = self.random
        words = [pick.choice(_ODD if pick.random() < 0.25 else _WORDS) for _ in range(pick.randint(1, 8))]
        return "".join(words)[:most]

    def _number(self) -> Decimal:
        return Decimal(self.random.choice(_NUMBERS))

    # --- records ---

    def _span(self) -> EvidenceSpan:
        start, quote = sum(map(len, self._parts)), self._text()
        self._parts += [quote, self.random.choice(["", "。", "\n"])]
        return EvidenceSpan(start=start, end=start + len(quote), quote=quote)

    def _record(self) -> Record:
        pick, maybe = self.random, self._maybe
        kind = pick.choice(list(Kind))
        measured = kind in (Kind.LAB, Kind.INFECTION)
        wanted = (*FIELDS[kind], *((Field.REFERENCE,) if measured else ()))
        fields = {field: self._span() for field in wanted if field is Field.NAME or pick.random() < 0.6}
        statement = Statement(
            kind=kind,
            fields=fields,
            assertion=pick.choice(list(Assertion)),
            category=maybe(pick.choice(list(AllergyCategory))) if kind is Kind.ALLERGY else None,
            result=maybe(pick.choice(list(InfectionResult))) if kind is Kind.INFECTION else None,
            action=maybe(pick.choice(list(Action))) if kind is Kind.PRESCRIPTION else None,
            confidence=maybe(pick.random()),
        )
        known = _CODINGS[kind]
        modifier = Modifier(
            position=pick.choice(list(ModifierPosition)), text="左", codings=tuple(pick.sample(_MODIFIER, pick.randint(0, 3)))
        )
        quantity = Quantity(
            value=self._number(), comparator=maybe(pick.choice(list(Comparator)), 0.2), unit=maybe(pick.choice(_UNITS))
        )
        return Record(
            statement=statement,
            display=pick.choice([fields[Field.NAME].quote, self._text(), "高血圧症"]),
            codings=tuple(pick.sample(known, 1 if measured else pick.randint(0, len(known)))),
            local=maybe(pick.choice(_LOCAL), 0.3),
            modifiers=(modifier,) if kind is Kind.CONDITION and pick.random() < 0.5 else (),
            date=maybe(pick.choice(_DATES)),
            quantity=maybe(quantity) if measured else None,
            text_value=maybe(pick.choice(["陽性", "-", "2+", "A", "", self._text()]), 0.4),
            flag=maybe(pick.choice(["H", "↑", "(L)", "", self._text()]), 0.4),
            reference_range=maybe(ReferenceRange(low=maybe(self._number()), high=maybe(self._number())), 0.4),
            dosage=maybe(self._dosage()) if kind is Kind.PRESCRIPTION else None,
            reactions=tuple(self._text() for _ in range(pick.randint(0, 2))),
            relative=maybe(pick.choice(["母", "父方の叔父", self._text()])),
        )

    def _dosage(self) -> Dosage:
        pick, maybe = self.random, self._maybe
        return Dosage(
            dose=maybe(self._number()), dose_unit=maybe(pick.choice(_UNITS)), per_day=maybe(pick.choice([0, 1, 3])),
            days=maybe(pick.choice([0, 28])), as_needed=pick.random() < 0.2, text=maybe(self._text()),
            usage=tuple(pick.sample(_USAGE, pick.randint(0, 2))),
        )  # fmt: skip

    # --- the sender ---

    def _name(self) -> str:
        return self.random.choice(["ﾔﾏﾀﾞ", "\u3000", "Smith", "山田　太郎", self._text()])

    def _person(self) -> Practitioner:
        own_id = self._maybe(self.random.choice(["D001", "a.b_c"]))
        names = ("佐藤", "一郎") if self.complete else (self._name(), self._name())
        return Practitioner(id=own_id, family=names[0], given=names[1])

    def _facility(self) -> Facility | None:
        pick = self.random
        if not self.complete and pick.random() < 0.1:
            return None
        return Facility(
            number=self._stated("1311234567"),
            name="見本病院" if self.complete else pick.choice(["見本病院", "\u3000", self._text()]),
            address=self._maybe(self._text()),
            patient_id_oid=None if self.complete else self._maybe("1.2.3", 0.2),
        )

    def _note(self, text: str) -> ChartNote:
        pick, stated = self.random, self._stated
        family, given = ("山田", "花子") if self.complete else (self._name(), self._name())
        patient = Patient(
            id=pick.choice(["P1", "0012"]), family=family, given=given, sex=pick.choice(list(Sex)),
            birth_date=stated(pick.choice([date(1, 1, 1), date(1960, 1, 2)])),
            address=stated("東京都港区" if self.complete else self._text()),
            insurance_id=stated("00012345:あいう:１８７:05" if self.complete else "00012345::^:"),
        )  # fmt: skip
        encounter = Encounter(
            id=self._maybe(pick.choice(["V-77", "S.1_"])), encounter_class=pick.choice(list(EncounterClass)),
            start=stated(date(2024, 4, 20)), end=stated(date(2024, 5, 1)),
            discharge_disposition=self._maybe(pick.choice(list(DischargeDisposition))),
            admit_source=self._maybe(pick.choice(list(AdmitSource))), reason=self._maybe(self._text()),
        )  # fmt: skip
        recipient = Recipient(
            name="港診療所" if self.complete else self._name(), number=stated(pick.choice(["1319876543", "1311234567"])),
            department=self._maybe(self._text()), address=self._maybe(self._text()), phone=self._maybe("03-1"),
            physician=self._maybe(self._person()),
        )  # fmt: skip
        return ChartNote(
            id="n-1", document_type=pick.choice([*DocumentType, DocumentType.REFERRAL, DocumentType.DISCHARGE]),
            department=pick.choice(["内科", "\u3000", self._text()]), patient=patient, text=text,
            date=pick.choice([date(2024, 5, 1), date(2019, 1, 1), date(1, 1, 1), date(9999, 12, 31)]),
            encounter=stated(encounter), physician=stated(self._person()), recipient=stated(recipient),
        )  # fmt: skip


def made(seed: int) -> tuple[RandomNote, list[dict[str, Any]]]:
    """The note of a seed and its resources, which are the same each time."""
    case = RandomNote(Random(seed))
    arguments: dict[str, Any] = {"facility": case.facility, "run": RUN, "recorded": NOW, "source": "emr"}
    resources, issues = build_resources(case.note, case.records, **arguments)
    again, same = build_resources(case.note, case.records, **arguments)
    assert (again, same) == (resources, issues)
    return case, resources


def bundles(case: RandomNote, resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The collection, and all that can be sent of it."""
    found = [collection(case.note, resources, NOW), documents.document(case.note, resources, timestamp=NOW)[0]]
    for type_ in clins.CLINS_TYPES:
        chosen = [r for r in resources if r["resourceType"] == type_]
        if type_ != "Observation":
            chosen, _ = clins.merged(type_, [chosen], today=date(2026, 5, 2))
        sent, _ = clins.clins_bundle(type_, resources[0], chosen, identifier_value="1311234567^2026^a", timestamp=NOW)
        found.append(sent)
    return [bundle for bundle in found if bundle is not None]
