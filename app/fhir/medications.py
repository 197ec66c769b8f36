"""処方: records to MedicationRequest (JP_MedicationRequest_eCS and JP_MedicationDosage_eCS of JP-CLINS 1.10.0)."""

import re
import unicodedata
from decimal import Context, Decimal

from app.fhir import codes, people
from app.fhir.context import NoteContext, written_name
from app.fhir.elements import Json, concept, drug_quantity, duration, line, with_extension
from app.fhir.units import PRODUCT_UNITS
from schemas.coding import Coding
from schemas.issue import IssueType, Severity
from schemas.record import Record
from schemas.statement import Action, Field, Statement
from schemas.units import merit9_code

_ORDERS = (Action.PRESCRIBE, Action.CONTINUE, Action.CHANGE)
# Usage codes of both systems begin with the kind of use: 1 内服, 2 外用 (JAMI 標準用法マスタ, 基本用法区分).
_EXTERNAL_CODE = "2"
_SPREAD_OR_DROPPED = re.compile("塗布|塗擦|外用|点眼|点鼻|点耳")
_EXTERNAL = re.compile(f"{_SPREAD_OR_DROPPED.pattern}|貼付|貼布|噴霧|吸入|含嗽|うがい|挿入")
_ONE_INTAKE = re.compile("[1１一毎]\\s*回|/\\s*回")
# Nobody takes a tube, a bottle or a can of an external drug at once: such an amount is the whole (外用全量).
_CONTAINERS = frozenset({"HON", "BTL", "BAG", "TUBE", "CAN", "BOX"})
_BULK = frozenset({"G", "ML"})
_EXACT = Context(prec=200)


class Prescriptions:
    """The prescriptions of one note in their order: drugs that share one written usage are one Rp."""

    def __init__(self, ctx: NoteContext) -> None:
        self.ctx = ctx
        self._usage: tuple[int, int] | None = None
        self._rp = self._order = 0

    def request(self, record: Record) -> Json:
        """JP_MedicationRequest_eCS for what the note orders, when the dosage has what that profile demands; a drug that
        is stopped, planned, or was taken before, and any other dosage, is a JP_MedicationRequest."""
        ctx, statement = self.ctx, record.statement
        action = statement.action or Action.PRESCRIBE
        ecs = ctx.ecs("MedicationRequest")
        dosage = _Dosage(ctx, record)
        missing = dosage.missing
        if action not in _ORDERS:
            missing = [("MedicationRequest.status", "a stopped, past or planned drug is not a completed order")]
        if ecs:
            for element, why in missing:
                ctx.not_ecs(element, why)
            ecs = not missing
        status, intent = ("completed", "order") if ecs else codes.MEDICATION_STATUS[action]
        resource = ctx.start("MedicationRequest", record, ecs, self._numbers(statement)) | {
            "status": status,
            "intent": intent,
            "medicationCodeableConcept": concept(
                _drug_codings(record), written_name(record), ctx.evidence(record, Field.NAME)
            ),
            "subject": ctx.subject,
            # Prose asks for seconds and a zone, the definition for a dateTime: the note has a day, no time is invented.
            "authoredOn": ctx.day,
        }
        if instruction := dosage.instruction(ecs):
            resource["dosageInstruction"] = [instruction]
        if dispensed := dosage.dispense_request():
            resource["dispenseRequest"] = dispensed
        people.attach(ctx, resource, "requester")
        if ecs:
            if not ctx.note.encounter:
                ctx.not_for_document("MedicationRequest.encounter")
            if not ctx.ids.physician:
                ctx.not_for_document("MedicationRequest.requester")
        return resource

    def _numbers(self, statement: Statement) -> list[Json]:
        usage = statement.fields.get(Field.USAGE)
        group = (usage.start, usage.end) if usage else None
        same = group is not None and group == self._usage
        self._rp, self._order = (self._rp, self._order + 1) if same else (self._rp + 1, 1)
        self._usage = group
        return [
            {"system": codes.RP_NUMBER, "value": str(self._rp)},
            {"system": codes.ORDER_IN_RP, "value": str(self._order)},
        ]


def _drug_codings(record: Record) -> list[Coding]:
    """The best coding of a system that the profile allows once, all others, or the standard's code for none."""
    found: list[Coding] = []
    for coding in record.codings:
        once = coding.system in codes.SINGLE_DRUG_SYSTEMS
        if not (once and any(coding.system == other.system for other in found)):
            found.append(coding)
    return found or [codes.UNCODED_DRUG]


class _Dosage:
    """Dosage and dispenseRequest of a record.

    `missing`: what JP_MedicationDosage_eCS demands and the note does not say: (element, why).
    """

    def __init__(self, ctx: NoteContext, record: Record) -> None:
        self.ctx, self.record = ctx, record
        self.fields, self.dosage = record.statement.fields, record.dosage
        usage = self.fields.get(Field.USAGE)
        self.usage = line(usage.quote) if usage else ""
        codings = self.dosage.usage if self.dosage else ()
        self.epd = next((c for c in codings if c.system == codes.USAGE_EPRESCRIPTION), None)
        self.jami = next((c for c in codings if c.system == codes.USAGE_JAMI), None)
        self.rate: Json = {}
        self.total: Json = {}
        self.missing: list[tuple[str, str]] = []
        if not self.usage:
            self.missing.append(("MedicationRequest.dosageInstruction.timing.code", "the usage is not stated"))
        self._amount()

    def _amount(self) -> None:
        dosage = self.dosage
        if dosage is None or dosage.dose is None:
            return
        amount, _, per = _folded(dosage.dose_unit).removesuffix("/回").partition("/")
        code = merit9_code(amount)
        taken = self.ctx.evidence(self.record, Field.DOSE)
        if per and per not in ("日", "day"):
            # JP Core knows a ratio per day only; an amount per week or hour is a quantity with its written unit.
            self.rate = {"rateQuantity": with_extension({"value": dosage.dose, "unit": f"{amount}/{per}"}, taken)}
        elif code is None:
            self.ctx.issue(
                Severity.INFORMATION,
                IssueType.INCOMPLETE,
                "MedicationRequest.dosageInstruction.doseAndRate: no MERIT-9 code for the unit, the amount stands as text",
                self.record.statement,
            )
            return
        elif per:
            self.rate = _per_day(dosage.dose, amount, code, taken)
        elif self._is_total(code):
            self.total = with_extension(drug_quantity(dosage.dose, amount, code), taken)
            return
        else:
            self.rate = {"doseQuantity": with_extension(drug_quantity(dosage.dose, amount, code), taken)}
            if dosage.per_day is not None and dosage.per_day > 0 and not dosage.as_needed:
                daily = _EXACT.multiply(dosage.dose, Decimal(dosage.per_day))
                self.rate |= _per_day(daily, amount, code, self.ctx.evidence(self.record, Field.DOSE, Field.USAGE))
        if code in PRODUCT_UNITS:
            self.rate = {"type": concept([codes.PRODUCT_AMOUNT]), **self.rate}
        else:
            why = "the amount does not say whether it is of the product or of its ingredient"
            self.missing.append(("MedicationRequest.dosageInstruction.doseAndRate.type", why))

    def _is_total(self, code: str) -> bool:
        """Is it 外用全量, which belongs into dispenseRequest (JP_MedicationDosage_eCS, doseAndRate)?"""
        written = self.fields.get(Field.DOSE)
        if written and _ONE_INTAKE.search(written.quote):
            return False
        known = [c.code[:1] == _EXTERNAL_CODE for c in (self.epd, self.jami) if c]
        if not (known[0] if known else _EXTERNAL.search(self.usage)):
            return False
        return code in _CONTAINERS or (code in _BULK and bool(_SPREAD_OR_DROPPED.search(self.usage)))

    def instruction(self, ecs: bool) -> Json:
        """Dosage; empty when the note states neither amount nor usage."""
        fields, dosage, ctx = self.fields, self.dosage, self.ctx
        quotes = [line(fields[f].quote) for f in (Field.DOSE, Field.USAGE) if f in fields]
        made: Json = {}
        if text := line((dosage.text if dosage else None) or " ".join(quotes)) or self.usage:
            made["text"] = text
        timing: Json = {}
        if repeat := self._repeat():
            timing["repeat"] = repeat
        if self.usage:
            codings = [c for c in (self.epd, self.jami) if c]
            if ecs and self.epd is None:
                # Exactly one of 厚労省用法 and the dummy (R5020, R5021); the JAMI code may stand beside either.
                codings.insert(0, codes.UNCODED_USAGE)
            timing["code"] = concept(codings, self.usage, ctx.evidence(self.record, Field.USAGE))
        if timing:
            made["timing"] = timing
        if dosage and dosage.as_needed:
            made["asNeededBoolean"] = True
        if self.rate:
            made["doseAndRate"] = [self.rate]
        if not made:
            return {}
        extension = ctx.evidence(self.record, Field.DOSE, Field.USAGE)
        if ecs:
            # 1..1; where no other start is stated it is the day of the prescription (JP-CLINS, MedicationRequest).
            extension.append({"url": codes.PERIOD_OF_USE, "valuePeriod": {"start": ctx.day}})
        return with_extension(made, extension)

    def _repeat(self) -> Json:
        dosage = self.dosage
        repeat: Json = {}
        if dosage and dosage.days is not None and dosage.days > 0:
            days = duration(dosage.days, "日", "d")
            repeat["boundsDuration"] = with_extension(days, self.ctx.evidence(self.record, Field.DAYS))
        if dosage and dosage.per_day is not None and dosage.per_day > 0:
            repeat |= {"frequency": dosage.per_day, "period": 1, "periodUnit": "d"}
        return repeat

    def dispense_request(self) -> Json:
        made: Json = {}
        if self.total:
            made["quantity"] = self.total
        if self.dosage and self.dosage.days is not None and self.dosage.days > 0:
            supply = duration(self.dosage.days, "日", "d")
            made["expectedSupplyDuration"] = with_extension(supply, self.ctx.evidence(self.record, Field.DAYS))
        return made


def _folded(unit: str | None) -> str:
    return line(unicodedata.normalize("NFKC", unit or ""))


def _per_day(value: Decimal, unit: str, code: str, taken: list[Json]) -> Json:
    """A total of a day is a rate: as `doseQuantity` it would read as the amount of one intake."""
    ratio = {"numerator": drug_quantity(value, unit, code), "denominator": duration(1, "日", "d")}
    return {"rateRatio": with_extension(ratio, taken)}
