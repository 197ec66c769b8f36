"""OMP-01, the drugs that a note gives.

Source: SS-MIX2 標準化ストレージ仕様書 1.2 (allowed and required fields as of 1.2g), JAHIS 処方データ交換規約 3.0C.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from app.errors import InvalidInput
from app.ssmix2 import codes, hl7
from app.ssmix2.adt import add_allergies
from app.ssmix2.builder import Builder, DataKind, Facility, Message, compact, order_number, seconds
from app.ssmix2.stated import Drug, Registration
from app.ssmix2.units import LOCAL, dose_unit
from app.ssmix2.values import digits
from schemas import systems
from schemas.note import ChartNote
from schemas.record import Dosage, Record
from schemas.statement import Action, Assertion, Field, Kind

# A stopped, a former and a planned drug is no order.
_NOT_ORDERED = (Action.STOP, Action.HISTORY, Action.PLAN)


def prescription_message(
    note: ChartNote,
    drugs: Sequence[Drug],
    facility: Facility,
    *,
    order: int,
    control_id: str,
    sent_at: datetime,
    registration: Registration | None = None,
    ordered_at: datetime | None = None,
    prescription_no: str | None = None,
    allergies: Sequence[Record] = (),
) -> Message | None:
    """OMP-01, the drugs of one note as one order of its date.

    Only drugs that the note gives (prescribe, continue, change, or no action stated); None when nothing is left.
    Drugs that share the written usage share an RP number. `ordered_at`: None: the day of the note. `prescription_no`:
    None: the order number. `allergies`: all that are known of the patient, or none. Raises InvalidInput for a 100th RP.
    """
    order_no = order_number(order)
    chosen = [drug for drug in drugs if _is_ordered(drug.record)]
    if not chosen:
        return None
    build = Builder(note, facility, DataKind.PRESCRIPTION, control_id, sent_at, registration)
    build.patient()
    build.visit("")  # PV1-1 must stay empty in OMP-01
    add_allergies(build, allergies)
    number = build.text("RXE-15", prescription_no or order_no, 20)
    for rp, together in enumerate(_taken_together(chosen), 1):
        for place, drug in enumerate(together, 1):
            if rp > 99:
                raise InvalidInput("a prescription holds at most 99 RP numbers (ORC-4)")
            placed = seconds(ordered_at) or compact(note.date)
            build.order("NW", order_no, {4: f"{order_no}_{rp:02}_{place:03}", 9: placed})
            _prescribe(build, drug, number)
    return build.message(note.date, order_no, facility.department_code or "-")


def _is_ordered(record: Record) -> bool:
    said = record.statement
    return said.kind is Kind.PRESCRIPTION and said.action not in _NOT_ORDERED and said.assertion is not Assertion.FAMILY


def _taken_together(drugs: Iterable[Drug]) -> list[list[Drug]]:
    groups: list[list[Drug]] = []
    former: tuple[int, int] | None = None
    for drug in drugs:
        usage = drug.record.statement.fields.get(Field.USAGE)
        # Only the very same words of the note: 毎食後 written twice may be two RPs.
        place = (usage.start, usage.end) if usage else None
        if groups and place is not None and place == former:
            groups[-1].append(drug)
        else:
            groups.append([drug])
        former = place
    return groups


def _prescribe(build: Builder, drug: Drug, prescription_no: str) -> None:
    record, dosage = drug.record, drug.record.dosage or Dosage()
    external = is_external(record)
    amount = amounts(record)
    stated = amount.per_intake is not None and amount.unit is not None
    daily = amount.per_day is not None and amount.unit is not None
    yj = codes.find_coding(record, systems.YJ)
    use = "23^外用^JHSP0003" if external else "22^頓用^JHSP0003" if dosage.as_needed else "21^内服^JHSP0003"
    known_use = external is not None or dosage.as_needed
    ward = "OHP^外来処方^MR9P" if not build.inpatient else "IHP^入院処方^MR9P"
    build.add(
        "RXE",
        {
            2: build.coded("RXE-2", codes.drug_code(record)),
            # A number without its unit says nothing: both are null, and TQ1-11 has what is written.
            3: digits(amount.per_intake) if stated and amount.per_intake is not None else hl7.NULL,
            5: build.coded("RXE-5", amount.unit) if stated and amount.unit else hl7.NULL,
            6: build.coded("RXE-6", (*drug.form, "MR9P")) if drug.form else "",
            10: _plain(amount.total) if amount.total is not None and amount.unit else hl7.NULL,
            11: build.coded("RXE-11", amount.unit) if amount.total is not None and amount.unit else hl7.NULL,
            15: prescription_no,
            19: f"{_plain(amount.per_day)}^{build.coded('RXE-19', amount.unit, '&')}" if daily and amount.unit else "",
            21: f"{ward}~OHO^院外処方^MR9P" if drug.outside else ward,
            27: use if known_use else "",
            31: build.coded("RXE-31", (yj.code, yj.display, "YJ")) if yj else "",
        },
    )
    build.add(
        "TQ1",
        {
            1: "1",
            3: build.coded("TQ1-3", codes.usage_code(record), "&"),
            6: f"{dosage.days}^D&日&ISO+" if dosage.days else "",
            7: seconds(drug.start)[:10] if isinstance(drug.start, datetime) else compact(drug.start),
            11: build.text("TQ1-11", dosage.text, lines=True) if dosage.text else "",
            14: str(amount.times) if amount.times else "",
        },
    )
    # RXR-1 is required; where the note does not tell the route it is an explicit null.
    routes = {True: "AP^外用^HL70162", False: "PO^口^HL70162", None: hl7.NULL}
    route = build.coded("RXR-1", (*drug.route, "HL70162")) if drug.route else routes[external]
    build.add("RXR", {1: route, 2: build.coded("RXR-2", (*drug.site, "JAMISDP01")) if drug.site else ""})


# --- amounts ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Amounts:
    """`per_intake` (RXE-3), `per_day` (RXE-19) and `total` (RXE-10) in `unit`; `times`: intakes supplied (TQ1-14)."""

    per_intake: Decimal | None = None
    per_day: Decimal | None = None
    total: Decimal | None = None
    unit: tuple[str, str, str] | None = None
    times: int | None = None


def amounts(record: Record) -> Amounts:
    """What a dosage says of amounts. An amount per kilogram, week or hour keeps that in its unit and is not multiplied."""
    dosage = record.dosage or Dosage()
    times = _occasions(record) if dosage.as_needed else None
    if dosage.dose is None:
        return Amounts(times=times)
    written = unicodedata.normalize("NFKC", dosage.dose_unit or "").strip()
    amount, _, per = written.removesuffix("/回").partition("/")
    if per and per not in ("日", "day"):
        return Amounts(dosage.dose, unit=("", f"{amount}/{per}", LOCAL), times=times)
    unit = dose_unit(amount) if amount else None
    per_intake = per_day = total = None
    if per:
        per_day = dosage.dose
    elif _is_total(record, unit):
        total = dosage.dose
    else:
        per_intake = dosage.dose
        if dosage.per_day and not dosage.as_needed:
            per_day = per_intake * dosage.per_day
    # 頓用 is supplied by the number of intakes, anything else by days.
    if times and per_intake is not None:
        total = per_intake * times
    elif per_day is not None and dosage.days:
        total = per_day * dosage.days
    return Amounts(per_intake, per_day, total, unit, times)


def _occasions(record: Record) -> int | None:
    """The intakes supplied of a drug taken as needed (5回分), as the note writes them."""
    written = record.statement.fields.get(Field.DAYS)
    found = re.findall("([0-9]{1,3}) ?回", unicodedata.normalize("NFKC", written.quote)) if written else []
    return int(found[0]) if len(found) == 1 and int(found[0]) else None


def _plain(value: object) -> str:
    """A computed number without the zeros that multiplication adds."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


# --- oral or external ------------------------------------------------------------------------------------------------

# Usage codes of JAMI and of the 電子処方箋 master begin with the kind of use: 1 内服, 2 外用 (基本用法区分).
_USE = {"1": False, "2": True}
# The fifth to seventh character of a YJ code: 001-399 oral, 400-699 injection, 700-999 external.
# Source: MHLW 薬価基準収載医薬品コード, 投与経路区分.
_ORAL_FORM = re.compile("錠|カプセル|散|顆粒|細粒|シロップ|内用|内服|エキス|ゼリー|[丸湯]$")
_EXTERNAL_FORM = re.compile(
    "軟膏|クリーム|ローション|点眼|点鼻|点耳|眼軟膏|貼付|テープ|パップ|パッチ|湿布|坐剤|坐薬|座薬|坐|膣錠|腟錠|"
    "吸入|エアゾール|含嗽|うがい|外用|塗布|ゲル|スプレー|浣腸|注腸"
)
_ORAL_UNITS = {"錠", "カプセル", "包", "丸"}
_SPREAD_OR_DROPPED = re.compile("塗布|塗擦|外用|点眼|点鼻|点耳")
_EXTERNAL_USAGE = re.compile(f"{_SPREAD_OR_DROPPED.pattern}|貼付|貼布|噴霧|吸入|含嗽|うがい|挿入")
_ONE_INTAKE = re.compile(r"[1１一毎]\s*回|/\s*回")
# Nobody takes a tube, a bottle or a can of an external drug at once: such an amount is the whole (外用全量).
_CONTAINERS = frozenset({"HON", "BTL", "BAG", "TUBE", "CAN", "BOX"})
_BULK = frozenset({"G", "ML"})


def is_external(record: Record) -> bool | None:
    """True for 外用, False for an oral drug, None for an injection or when nothing tells."""
    if (by_usage := _use_of_code(record)) is not None:
        return by_usage
    coding = codes.find_coding(record, systems.YJ)
    if coding and coding.code[4:7].isdigit():
        route = int(coding.code[4:7])
        return True if route >= 700 else False if route < 400 else None
    name = record.statement.name.quote + record.display
    if _EXTERNAL_FORM.search(name):
        return True
    if "注" in name:
        return None
    oral_unit = record.dosage is not None and record.dosage.dose_unit in _ORAL_UNITS
    return False if oral_unit or _ORAL_FORM.search(name) else None


def _use_of_code(record: Record) -> bool | None:
    codings = record.dosage.usage if record.dosage else ()
    known = (c for s in (systems.USAGE, systems.USAGE_JAMI) for c in codings if c.system == s)
    coding = next(known, None)
    return _USE.get(coding.code[:1]) if coding else None


def _is_total(record: Record, unit: tuple[str, str, str] | None) -> bool:
    """Is the amount 外用全量, the whole that is dispensed? FHIR output follows the same rule (JP_MedicationDosage_eCS)."""
    written = record.statement.fields.get(Field.DOSE)
    if unit is None or (written and _ONE_INTAKE.search(written.quote)):
        return False
    usage = record.statement.fields.get(Field.USAGE)
    said = " ".join(usage.quote.split()) if usage else ""
    codings = record.dosage.usage if record.dosage else ()
    coded = any(c.system in (systems.USAGE, systems.USAGE_JAMI) for c in codings)
    if not (_use_of_code(record) if coded else _EXTERNAL_USAGE.search(said)):
        return False
    return unit[0] in _CONTAINERS or (unit[0] in _BULK and bool(_SPREAD_OR_DROPPED.search(said)))
