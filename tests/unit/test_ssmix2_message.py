"""All messages of a note, the snapshots of a patient, and the messages that take others back."""

from collections.abc import Sequence
from datetime import UTC, date, datetime

import pytest
from ssmix2_cases import FACILITY, SENT_AT, a_note, a_visit, allergy, amount, condition, drug, lab, prescribed, results

from app.errors import InvalidInput
from app.ssmix2 import (
    Allergy,
    Message,
    Problem,
    allergy_message,
    cancelled,
    diagnosis_message,
    messages,
    parse,
    patient_message,
    patient_snapshot,
    visit_message,
)
from schemas.note import ChartNote
from schemas.record import Record
from schemas.statement import AllergyCategory, Assertion


def fields(message: Message, segment: str, number: int, component: int = 1) -> list[str]:
    return [part.get(number, component) for part in parse(message.text) if part.name == segment]


def test_messages_of_a_note() -> None:
    records = [
        condition("胃炎"),
        condition("胃潰瘍"),
        allergy("彅", AllergyCategory.OTHER),
        drug("A錠", None),
        lab("AST", date="2026-03-01", quantity=amount("1")),
        lab("AST", date="2026-03-02", quantity=amount("2")),
    ]
    made, issues = messages(a_visit(), records, facility=FACILITY, sent_at=SENT_AT)
    kinds = ["ADT-00", "ADT-12", "ADT-61", "PPR-01", "OMP-01", "OML-11", "OML-11"]
    assert [message.kind.value for message in made] == kinds
    assert [issue.text.split(":")[0] for issue in issues] == ["ADT-61 IAM-3"]
    control_ids = {parse(message.text)[0].get(10) for message in made}
    assert len(control_ids) == len(made)
    assert all(len(control_id) == 20 for control_id in control_ids)
    problems = fields(made[3], "PRB", 4)
    assert len(set(problems)) == 2
    # Converting again later: the same names and instances, new messages.
    again, _ = messages(a_visit(), records, facility=FACILITY, sent_at=SENT_AT.replace(year=2027))
    assert [(m.kind, m.care_date, m.order_no) for m in again] == [(m.kind, m.care_date, m.order_no) for m in made]
    assert fields(again[3], "PRB", 4) == problems
    assert not control_ids & {parse(message.text)[0].get(10) for message in again}


@pytest.mark.parametrize("change", [{"source": "elsewhere"}, {"id": "n2"}])
def test_order_number_is_of_source_and_note(change: dict[str, str]) -> None:
    def order_no(note: ChartNote, source: str) -> str:
        made, _ = messages(note, [drug("A錠", None)], facility=FACILITY, sent_at=SENT_AT, source=source)
        return made[-1].order_no

    source = change.get("source", "here")
    note = a_note().model_copy(update={"id": change.get("id", "n1")})
    assert order_no(a_note(), "here") == order_no(a_note(), "here") != order_no(note, source)


def test_what_cannot_be_written_stops_nothing_else() -> None:
    drugs = [drug(f"薬{number}錠", None, start=10 * number) for number in range(100)]
    made, issues = messages(a_note(), [*drugs, condition("胃炎")], facility=FACILITY, sent_at=SENT_AT)
    assert [message.kind.value for message in made] == ["ADT-00", "PPR-01"]
    assert [(issue.severity, issue.text) for issue in issues] == [
        ("error", "SS-MIX2: a prescription holds at most 99 RP numbers (ORC-4)")
    ]
    made, issues = messages(a_note(), [lab("AST"), condition("胃炎")], facility=FACILITY, sent_at=SENT_AT)
    assert [message.kind.value for message in made] == ["ADT-00", "PPR-01"]
    assert [issue.text for issue in issues] == ["OML-11 OBX-5: a result without a value is not written"]


def test_a_note_s_message_holds_what_older_notes_say() -> None:
    older = [condition("胃炎", onset="2020年", date="2020"), allergy("エビ", AllergyCategory.FOOD)]
    now = [condition("胃潰瘍"), allergy("カニ", AllergyCategory.FOOD)]
    made, _ = messages(a_note(), now, facility=FACILITY, sent_at=SENT_AT, earlier=[(None, older)])
    _, allergic, diseased = made
    assert fields(diseased, "PRB", 3, 2) == ["胃炎", "胃潰瘍"]
    # Of the older one neither physician nor department are at hand.
    assert len(fields(diseased, "ORC", 2)) == 1
    assert fields(allergic, "IAM", 3, 2) == ["エビ", "カニ"]
    assert fields(allergic, "IAM", 13) == ["", "20260401"]


# --- snapshots of a patient ---


def noted(day: int, *records: Record, **values: object) -> tuple[ChartNote, Sequence[Record]]:
    values = {"id": f"n{day}", "date": date(2026, 4, day)} | values
    return a_note().model_copy(update=values), records


def snapshot(*notes: tuple[ChartNote, Sequence[Record]]) -> list[Message]:
    made, issues = patient_snapshot(notes, FACILITY, sent_at=SENT_AT, control_ids=["S1", "S2"])
    assert not issues
    return made


def test_snapshot_of_a_patient() -> None:
    moved = a_note().patient.model_copy(update={"family": "新姓"})
    made = snapshot(
        noted(1, condition("胃炎"), allergy("エビ", AllergyCategory.FOOD), department="外科"),
        noted(2, condition("HT", display="高血圧症"), drug("A錠", None), lab("AST", quantity=amount("1"))),
        noted(3, condition("高血圧症"), patient=moved),
    )
    assert [(m.kind.value, m.care_date, m.department) for m in made] == [("PPR-01", None, "-"), ("ADT-61", None, "-")]
    diseased, allergic = made
    assert [parse(message.text)[0].get(10) for message in made] == ["S1", "S2"]
    assert fields(diseased, "PID", 5) == ["新姓"]
    assert fields(diseased, "PRB", 3, 2) == ["胃炎", "高血圧症"]
    assert fields(diseased, "ORC", 9) == ["20260401", "20260403"]
    assert [(part.get(17), part.get(17, 2)) for part in parse(diseased.text) if part.name == "ORC"] == [
        ("", "外科"),
        ("01", "内科"),
    ]
    assert fields(allergic, "IAM", 13) == ["20260401"]


def test_ids_of_a_snapshot_are_those_of_the_notes() -> None:
    records = [condition("胃炎"), condition("胃炎", Assertion.PAST), allergy("エビ", AllergyCategory.FOOD)]
    of_note, _ = messages(a_note(), records, facility=FACILITY, sent_at=SENT_AT, source="anywhere")
    diseased, allergic = snapshot(noted(1, condition("骨折")), noted(2, *records))
    assert fields(diseased, "PRB", 4)[1:] == fields(of_note[2], "PRB", 4)
    assert fields(allergic, "IAM", 7) == fields(of_note[1], "IAM", 7)
    assert len(set(fields(diseased, "PRB", 4))) == 3


def test_nothing_left_is_no_message() -> None:
    assert snapshot() == []
    assert snapshot(noted(1, lab("AST", quantity=amount("1")))) == []
    made, issues = patient_snapshot(
        [noted(1, condition("胃炎")), noted(2, condition("胃炎", Assertion.ABSENT))],
        FACILITY,
        sent_at=SENT_AT,
        control_ids=["S1", "S2"],
    )
    assert made == []
    assert [(issue.severity, issue.text) for issue in issues] == [
        ("information", "SS-MIX2: an older condition is not written, the newest note that speaks of it denies it")
    ]


def test_notes_of_two_patients_are_no_snapshot() -> None:
    other = a_note().patient.model_copy(update={"id": "0000054321"})
    with pytest.raises(InvalidInput, match="more than one patient"):
        snapshot(noted(1, condition("胃炎")), noted(2, condition("胃炎"), patient=other))


def test_too_few_control_ids_are_an_issue() -> None:
    made, issues = patient_snapshot([noted(1, condition("胃炎"))], FACILITY, sent_at=SENT_AT, control_ids=[])
    assert made == []
    assert {issue.text for issue in issues} == {"SS-MIX2: control_ids: one for each message"}


# --- cancel messages ---


def test_cancelled() -> None:
    later = datetime(2026, 4, 2, 0, 0, tzinfo=UTC)
    said = {"control_id": "1", "sent_at": SENT_AT}
    allergic = [Allergy(allergy("エビ", AllergyCategory.FOOD), "K1")]
    diseased = [Problem(condition("胃炎"), "K1", order=1)]
    valid = [
        patient_message(a_note(), FACILITY, **said),
        visit_message(a_visit(), FACILITY, **said),
        allergy_message(a_note(), allergic, FACILITY, **said),
        diagnosis_message(a_note(), diseased, FACILITY, **said),
        prescribed([drug("A錠", None)]),
        *results([lab("AST", quantity=amount("1"))])[0],
    ]
    taken_back = []
    for message in valid:
        assert message is not None
        cancel = cancelled(message, control_id="2", sent_at=later)
        assert (cancel.kind, cancel.order_no) == (message.kind, message.order_no)
        segments = {segment.name: segment for segment in parse(cancel.text)}
        assert segments["MSH"].get(7) == "20260402090000.000"
        assert segments["MSH"].get(10) == "2"
        event = "^".join(segments["MSH"].get(9, part) for part in (1, 2, 3))
        sign = [segments[name].get(n) for name, n in (("IAM", 6), ("PRB", 1), ("ORC", 1)) if name in segments]
        taken_back.append((message.kind.value, event, *sign))
    assert taken_back == [
        ("ADT-00", "ADT^A23^ADT_A21"),
        ("ADT-12", "ADT^A11^ADT_A09"),
        ("ADT-61", "ADT^A60^ADT_A60", "D"),
        ("PPR-01", "PPR^ZD1^PPR_ZD1", "DE", "CA"),
        ("OMP-01", "RDE^O11^RDE_O11", "CA"),
        ("OML-11", "OUL^R22^OUL_R22", "CA"),
    ]
