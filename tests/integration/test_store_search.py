"""Search over stored resources, rule by rule of https://hl7.org/fhir/R4/search.html; on a real Postgres."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from sign_in import principal
from sqlalchemy import event

from app.db import Database
from app.errors import Forbidden, InvalidInput
from app.store import search, versions
from app.store.search import Page
from schemas.access import Principal

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
WHO = principal(scopes=["system/*.cruds"], name="emr")


def coded(code: str, system: str | None = LOINC) -> dict[str, Any]:
    return {"coding": [{"code": code} | ({"system": system} if system else {})]}


def patient(id_: str, number: str, family: str, kana: str, birth: str | None, **more: Any) -> dict[str, Any]:
    names = [{"family": family, "given": ["太郎"]}, {"family": kana, "given": ["タロウ"]}]
    content = {"resourceType": "Patient", "id": id_, "name": names, "gender": "male"}
    content["identifier"] = [{"system": "urn:p", "value": number}]
    return content | ({"birthDate": birth} if birth else {}) | more


def observation(id_: str, who: str | None, test: str, when: Any, value: Any = None, **more: Any) -> dict[str, Any]:
    content = {"resourceType": "Observation", "id": id_, "status": "final", "code": coded(test)}
    content |= {"subject": {"reference": f"Patient/{who}"}} if who else {}
    content |= {"effectivePeriod" if isinstance(when, dict) else "effectiveDateTime": when} if when else {}
    content |= {"valueQuantity": {"value": Decimal(value), "system": UCUM, "code": "mg/dL", "unit": "mg/dL"}} if value else {}
    return content | more


STORED = [
    {"resourceType": "Organization", "id": "org", "name": "架空総合病院", "alias": ["Kakū General"]},
    patient("p1", "0001", "山田", "ヤマダ", "1950-01-02", managingOrganization={"reference": "Organization/org"}),
    patient("p2", "0002", "田中", "タナカ", "1980-05", telecom=[{"system": "phone", "value": "03-1234"}], active=True),
    patient("p3", "a,b|c", "O'Brien", "オブライエン", None),
    {"resourceType": "Encounter", "id": "e1", "status": "finished", "class": {"system": "urn:class", "code": "AMB"},
     "subject": {"reference": "Patient/p1"}, "period": {"start": "2024-01-05", "end": "2024-01-07"}},
    {"resourceType": "Encounter", "id": "e2", "status": "in-progress", "class": {"code": "IMP"},
     "subject": {"reference": "Patient/p2"}, "period": {"start": "2024-02-01"}, "partOf": {"reference": "Encounter/e1"}},
    observation("o1", "p1", "4548-4", "2024-01-05T09:30:00+09:00", "5.40", encounter={"reference": "Encounter/e1"}),
    observation("o2", "p1", "4548-4", "2024-01-06", "7.2", category=[coded("laboratory", "urn:cat")]),
    observation("o3", "p1", "2345-7", "2024-01", "100", status="preliminary", code={"text": "血糖"}),
    observation("o4", "p2", "4548-4", "2024-02-02T23:00:00Z", "5.6", device={"display": "x"}),
    observation("o5", "p2", "2345-7", {"start": "2024-02-01"}, "90", issued="2024-02-03T00:00:00+09:00"),
    observation("o6", None, "4548-4", None, subject={"identifier": {"system": "urn:p", "value": "0002"}}),
    observation("o7", None, "local", "2023", code=coded("x|y", None), subject={"reference": "https://example.org/fhir/Patient/p1"}),
    {"resourceType": "Condition", "id": "c1", "subject": {"reference": "Patient/p1"}, "code": coded("E11", "urn:icd"),
     "onsetDateTime": "2015", "recordedDate": "2024-01-05", "meta": {"tag": [{"system": "urn:t", "code": "a"}],
     "profile": ["http://example.org/P"], "security": [{"system": "urn:s", "code": "R"}], "source": "urn:src"}},
    {"resourceType": "Condition", "id": "c2", "subject": {"reference": "Patient/p2"}, "code": {"text": "腹痛"},
     "onsetPeriod": {"start": "2020-01", "end": "2021-06"}, "encounter": {"reference": "Encounter/e2"}},
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def stored(database: Database) -> None:
    with database.session_scope() as session:
        for content in STORED:
            versions.update(session, content["resourceType"], content["id"], content, WHO)


def page(database: Database, type_: str, asked: str = "", *, who: Principal = WHO, strict: bool = True) -> Page:
    """`asked`: as in a URL, but decoded."""
    pairs = [tuple(part.split("=", 1)) for part in asked.split("&") if part]
    with database.session_scope() as session:
        return search.search(session, search.parse(type_, pairs, strict=strict), who)  # type: ignore[arg-type]


def ids(database: Database, type_: str, asked: str = "", **more: Any) -> str:
    return " ".join(found.id for found in page(database, type_, asked, **more).matches)


ROWS = [
    # rule 35: token
    ("Observation", "code=4548-4", "o1 o2 o4 o6"),
    ("Observation", f"code={LOINC}|4548-4", "o1 o2 o4 o6"),
    ("Observation", "code=urn:other|4548-4", ""),
    ("Observation", "code=|x\\|y", "o7"),
    ("Observation", "code=x\\|y", "o7"),
    ("Observation", "code=|4548-4", ""),
    ("Observation", f"code={LOINC}|", "o1 o2 o4 o5 o6"),
    ("Observation", "code=4548", ""),
    ("Patient", "identifier=urn:p|0001", "p1"),
    ("Patient", "identifier=0002", "p2"),
    ("Patient", "identifier=urn:q|0001", ""),
    ("Encounter", "class=urn:class|AMB", "e1"),
    ("Encounter", "class=|IMP", "e2"),
    ("Patient", "telecom=03-1234", "p2"),
    ("Patient", "phone=03-1234", "p2"),
    ("Patient", "active=true", "p2"),
    ("Patient", "gender=http://hl7.org/fhir/administrative-gender|male", "p1 p2 p3"),
    ("Observation", "status=preliminary", "o3"),
    # rule 36: string
    ("Patient", "name=山", "p1"),
    ("Patient", "family=やまだ", "p1"),
    ("Patient", "family=ﾔﾏ", "p1"),
    ("Patient", "name=だ", ""),
    ("Patient", "name:contains=だ", "p1"),
    ("Patient", "family:exact=ヤマダ", "p1"),
    ("Patient", "family:exact=やまだ", ""),
    ("Patient", "family=o'brien", "p3"),
    ("Patient", "family=%", ""),
    ("Patient", "family:contains=_", ""),
    ("Organization", "name=kaku", "org"),
    ("Organization", "name=架空", "org"),
    # rule 37: date
    ("Observation", "date=2024-01-05", "o1"),
    ("Observation", "date=2024-01", "o1 o2 o3"),
    ("Observation", "date=eq2024", "o1 o2 o3 o4"),
    ("Observation", "date=2024-01-05T09:30:00+09:00", "o1"),
    ("Observation", "date=2024-01-05T00:30:00Z", "o1"),
    ("Observation", "date=2024-01-05T00:30Z", "o1"),
    ("Observation", "date=2024-01-05T09:30:00 09:00", "o1"),
    ("Observation", "date=2024-01-05T09:30:00", "o1"),
    ("Observation", "date=2024-02-03", "o4"),
    ("Observation", "date=ne2024-01", "o4 o5 o7"),
    ("Observation", "date=gt2024-01-06", "o3 o4 o5"),
    ("Observation", "date=ge2024-01-06", "o2 o3 o4 o5"),
    ("Observation", "date=lt2024-01-06", "o1 o3 o7"),
    ("Observation", "date=le2024-01-06", "o1 o2 o3 o7"),
    ("Observation", "date=sa2024-01-06", "o4 o5"),
    ("Observation", "date=eb2024-01-06", "o1 o7"),
    ("Observation", "date=ge2024-01-06&date=lt2024-01-07", "o2 o3"),
    ("Observation", "date=2024-01-05,2024-01-06", "o1 o2"),
    ("Observation", "date=gt2030", "o5"),
    ("Encounter", "date=2024-01", "e1"),
    ("Encounter", "date=gt2024-03", "e2"),
    ("Condition", "onset-date=2015", "c1"),
    ("Condition", "onset-date=ge2021-05", "c2"),
    ("Condition", "onset-date=ge2021", ""),  # what is after 2021 does not meet it, and 2021 does not hold it
    ("Condition", "onset-date=sa2021-05", ""),
    ("Condition", "recorded-date=2024-01-05", "c1"),
    ("Condition", "recorded-date=ap2024-01-05", "c1"),
    ("Patient", "birthdate=1980", "p2"),
    ("Patient", "birthdate=lt1960", "p1"),
    # rule 38: quantity
    ("Observation", "value-quantity=5.4", "o1"),
    ("Observation", "value-quantity=5.40", "o1"),
    ("Observation", "value-quantity=5", "o1"),
    ("Observation", "value-quantity=6", "o4"),
    ("Observation", "value-quantity=1e2", "o3 o5"),  # one digit: 50 to 150
    ("Observation", "value-quantity=1.0e2", "o3"),
    ("Observation", "value-quantity=95", ""),
    ("Observation", f"value-quantity=5.4|{UCUM}|mg/dL", "o1"),
    ("Observation", "value-quantity=5.4||mg/dL", "o1"),
    ("Observation", "value-quantity=5.4||kg", ""),
    ("Observation", "value-quantity=gt5.4", "o2 o3 o4 o5"),
    ("Observation", "value-quantity=ge5.4", "o1 o2 o3 o4 o5"),
    ("Observation", "value-quantity=lt5.6", "o1"),
    ("Observation", "value-quantity=ne5.4", "o2 o3 o4 o5"),
    ("Observation", "value-quantity=ap5.5", "o1 o4"),
    # rule 39: reference
    ("Observation", "patient=p1", "o1 o2 o3"),
    ("Observation", "patient=Patient/p1", "o1 o2 o3"),
    ("Observation", "subject=Patient/p1", "o1 o2 o3"),
    ("Observation", "subject=p1", "o1 o2 o3"),
    ("Observation", "subject:Patient=p1", "o1 o2 o3"),
    ("Observation", "subject:Group=p1", ""),
    ("Observation", "subject=https://example.org/fhir/Patient/p1", "o7"),
    ("Observation", "subject:identifier=urn:p|0002", "o6"),
    ("Observation", "patient=p1,p2", "o1 o2 o3 o4 o5"),
    ("Encounter", "part-of=Encounter/e1", "e2"),
    # rule 40: :missing and :not
    ("Observation", "category:missing=false", "o2"),
    ("Observation", "date:missing=true", "o6"),
    ("Observation", "device:missing=false", "o4"),
    ("Condition", "onset-date:missing=true", ""),
    ("Condition", "code:missing=false", "c1 c2"),
    ("Condition", "encounter:missing=true", "c1"),
    ("Observation", "code:not=4548-4", "o3 o5 o7"),
    ("Observation", "status:not=final", "o3"),
    # rule 41: and, or, escapes
    ("Observation", "code=4548-4&patient=p1", "o1 o2"),
    ("Observation", "code=4548-4,2345-7&patient=p2", "o4 o5"),
    ("Patient", "identifier=a\\,b\\|c", "p3"),
    ("Patient", "identifier=urn:p|a\\,b\\|c,0001", "p1 p3"),
    # rule 42: chains and _has
    ("Observation", "patient.identifier=urn:p|0002", "o4 o5"),
    ("Observation", "subject:Patient.family=やま", "o1 o2 o3"),
    ("Observation", "subject.name=田中", "o4 o5"),
    ("Observation", "encounter.class=AMB", "o1"),
    ("Observation", "patient.organization.name=架空", "o1 o2 o3"),
    ("Observation", "encounter:Encounter.patient.identifier=0001", "o1"),
    ("Patient", "_has:Observation:patient:code=2345-7", "p2"),
    ("Patient", "_has:Observation:patient:value-quantity=gt7", "p1 p2"),
    ("Encounter", "_has:Observation:encounter:status=final", "e1"),
    ("Patient", "_has:Encounter:patient:_has:Observation:encounter:code=4548-4", "p1"),
    ("Patient", "organization.name=架空&gender=male", "p1"),
    # rule 44: the parameters of every type
    ("Observation", "_id=o2,o4", "o2 o4"),
    ("Condition", "_tag=urn:t|a", "c1"),
    ("Condition", "_profile=http://example.org/P", "c1"),
    ("Condition", "_security=R", "c1"),
    ("Condition", "_source=urn:src", "c1"),
    ("Condition", "_lastUpdated=ge2020", "c1 c2"),
    ("Condition", "_lastUpdated=lt2020", ""),
    # rule 34: an unknown code is no error
    ("Observation", "code=no-such-code", ""),
]


@pytest.mark.parametrize(("type_", "asked", "expected"), ROWS, ids=[f"{row[0]}?{row[1]}" for row in ROWS])
def test_what_a_search_finds(database: Database, type_: str, asked: str, expected: str) -> None:
    assert ids(database, type_, asked) == expected


# --- rules 33, 34, 40: what is refused, and what is ignored ---------------------------------------------------------------


@pytest.mark.parametrize("asked", [
    "date=yesterday", "date=2024-02-30", "date=xx2024", "value-quantity=much", "value-quantity=1e999", "value-quantity=1|2|3|4",
    "date:missing=maybe", "code=4548-4,", "code=|", "code=a|b|c", "code:in=http://example.org/v", "code:below=x", "code:text=x",
    "patient:above=1", "_id:missing=true", "_lastUpdated=soon", "_count=many", "_count=-1", "_total=some", "_summary=yes",
    "code.x=1", "subject:Device.identifier=\0", "patient:Observation.code=1", "subject:Patient=Group/1", "family:exact=x\ud800",
    "patient.organization.partof.partof.name=x", "_has:Encounter:status:class=x", "_cursor=x", "_cursor=ぬ", "_include:x=Observation:subject",
    "_include=Condition:subject",
])  # fmt: skip
def test_rule_34_malformed_values_and_rule_40_other_modifiers_are_refused(database: Database, asked: str) -> None:
    with pytest.raises(InvalidInput):
        page(database, "Observation", asked, strict=False)


@pytest.mark.parametrize("asked", [
    "colour=red", "code=", "_text=liver", "patient.colour=red", "_sort=colour", "_include=Observation:colour", "_has:Encounter:colour:class=x",
    "_has:Spaceship:x:y=9", "_totalMethod=count",
])  # fmt: skip
def test_rule_33_unknown_parameters_are_ignored_and_named_or_refused_when_strict(database: Database, asked: str) -> None:
    name, value = asked.split("=", 1)
    query = search.parse("Observation", [(name, value), ("status", "preliminary"), ("_format", "json")], strict=False)
    assert query.ignored == (name,) and query.used == (("status", "preliminary"),)
    with database.session_scope() as session:
        assert [found.id for found in search.search(session, query, WHO).matches] == ["o3"]
    with pytest.raises(InvalidInput) as refused:
        search.parse("Observation", [(name, value)], strict=True)
    assert not value or value not in str(refused.value)


def test_rule_9_a_condition_never_matches_everything(database: Database) -> None:
    with database.session_scope() as session:
        assert search.matching(session, "Patient", "identifier=urn:p|0001", WHO) == ["p1"]
        assert search.matching(session, "Patient", "?identifier=urn%3Ap%7C0002&gender=male", WHO) == ["p2"]
        assert search.matching(session, "Patient", "identifier=none", WHO) == []
        assert len(search.matching(session, "Patient", "gender=male", WHO)) == 2
        for criteria in ("", "identifier=", "colour=red", "identifier=1&colour=red", "_count=5", "identifier", "identifier=1&_sort=_id"):
            with pytest.raises(InvalidInput):
                search.matching(session, "Patient", criteria, WHO)


# --- rules 30, 31, 44: totals, pages, order ----------------------------------------------------------------------------


def test_rule_31_the_total_counts_matches_alone(database: Database) -> None:
    found = page(database, "Observation", "code=4548-4&_include=Observation:patient&_count=1")
    assert (found.total, len(found.matches), len(found.included)) == (4, 1, 1)
    for asked in ("_count=0", "_summary=count"):
        counted = page(database, "Observation", f"code=4548-4&{asked}")
        assert (counted.total, counted.matches, counted.next) == (4, [], None)
    assert page(database, "Observation", "_total=none&_count=2").total is None
    assert page(database, "Observation", "_total=accurate&_count=2").total == 7
    assert page(database, "Observation", "_total=estimate&_count=2").total == 7


@pytest.mark.parametrize("sort", [
    "", "_id", "-_id", "date", "-date", "-date,_id", "status,-date", "-status,-date", "_lastUpdated", "-_lastUpdated", "code", "-code,date",
    "value-quantity", "-value-quantity", "patient,-date", "-subject",
])  # fmt: skip
def test_rule_30_and_44_pages_follow_one_order_there_and_back(database: Database, sort: str) -> None:
    asked = f"_sort={sort}" if sort else ""
    whole = ids(database, "Observation", asked).split()
    assert sorted(whole) == ["o1", "o2", "o3", "o4", "o5", "o6", "o7"]
    seen: list[str] = []
    cursors: list[str] = []
    cursor: str | None = None
    previous: str | None = None
    for _ in range(5):
        found = page(database, "Observation", f"{asked}&_count=2" + (f"&_cursor={cursor}" if cursor else ""))
        seen += [one.id for one in found.matches]
        assert (found.previous is None) == (cursor is None)
        cursor, previous = found.next, found.previous
        if cursor is None:
            break
        cursors.append(cursor)
    assert seen == whole and len(cursors) == 3
    for expected in (whole[4:6], whole[2:4], whole[0:2]):
        found = page(database, "Observation", f"{asked}&_count=2&_cursor={previous}")
        assert [one.id for one in found.matches] == expected and found.next is not None
        previous = found.previous
    assert previous is None


def test_rule_44_order_by_one_and_more_keys(database: Database) -> None:
    assert ids(database, "Observation", "_sort=-date") == "o4 o5 o2 o1 o3 o7 o6"
    assert ids(database, "Observation", "_sort=date") == "o6 o7 o3 o1 o2 o5 o4"
    assert ids(database, "Observation", "_sort=-status,value-quantity") == "o3 o6 o7 o1 o4 o2 o5"
    assert ids(database, "Patient", "_sort=family") == "p3 p2 p1"
    assert ids(database, "Patient", "_sort=-birthdate") == "p2 p1 p3"


def test_rule_30_a_cursor_belongs_to_its_request_and_is_checked(database: Database) -> None:
    cursor = page(database, "Observation", "_count=2&code=4548-4").next
    assert cursor is not None
    for asked in (f"_cursor={cursor}", f"code=2345-7&_cursor={cursor}", f"code=4548-4&_cursor={cursor[:-3]}", "code=4548-4&_cursor=WzFd"):
        with pytest.raises(InvalidInput, match="_cursor"):
            page(database, "Observation", asked)
    assert ids(database, "Observation", f"_count=1&code=4548-4&_cursor={cursor}") == "o4"  # other page lengths are fine


def test_rule_30_pages_stay_while_others_write(fresh_database: Database) -> None:
    def put(id_: str, day: int) -> None:
        with fresh_database.session_scope() as session:
            versions.update(session, "Observation", id_, observation(id_, None, "x", f"2024-01-{day:02}"), WHO)

    for n in range(1, 7):
        put(f"o{n}", n)
    first = page(fresh_database, "Observation", "_sort=date&_count=3")
    put("o0", 1)
    put("o9", 3)
    with fresh_database.session_scope() as session:
        versions.remove(session, "Observation", "o3", WHO)
    second = page(fresh_database, "Observation", f"_sort=date&_count=9&_cursor={first.next}")
    assert [one.id for one in first.matches] == ["o1", "o2", "o3"]
    assert [one.id for one in second.matches] == ["o9", "o4", "o5", "o6"]
    # By a text the place is the resource itself; without it, it is said.
    texts = page(fresh_database, "Observation", "_sort=status&_count=3")
    with fresh_database.session_scope() as session:
        versions.remove(session, "Observation", texts.matches[-1].id, WHO)
    with pytest.raises(InvalidInput, match="begin with the first page"):
        page(fresh_database, "Observation", f"_sort=status&_count=3&_cursor={texts.next}")


def test_no_patient_text_is_in_a_cursor(database: Database) -> None:
    cursor = page(database, "Patient", "_sort=family&_count=1").next
    other = page(database, "Patient", "_sort=-family&_count=1").next
    assert cursor is not None and other is not None and max(len(cursor), len(other)) < 70


# --- rules 32, 43: included -----------------------------------------------------------------------------------------------


def included(database: Database, type_: str, asked: str, **more: Any) -> str:
    return " ".join(sorted(found.id for found in page(database, type_, asked, **more).included))


def test_rule_43_include_and_revinclude(database: Database) -> None:
    assert included(database, "Observation", "code=4548-4&_include=Observation:patient") == "p1 p2"
    assert included(database, "Observation", "_id=o1&_include=Observation:encounter") == "e1"
    assert included(database, "Observation", "_id=o1&_include=Observation:subject:Group") == ""
    assert included(database, "Observation", "_id=o1&_include=Observation:subject:Patient") == "p1"
    assert included(database, "Observation", "_id=o1&_include=*") == "e1 p1"
    assert included(database, "Observation", "_id=o1&_include=Observation:*") == "e1 p1"
    assert included(database, "Patient", "_id=p2&_revinclude=Condition:patient") == "c2"
    assert included(database, "Patient", "_id=p2&_revinclude=*") == "c2 e2 o4 o5"
    assert included(database, "Patient", "_id=p2&_revinclude=Observation:subject&_revinclude=Encounter:patient") == "e2 o4 o5"
    assert included(database, "Observation", "_id=o7&_include=Observation:subject") == ""  # it is elsewhere: silence


def test_rule_43_iterate_goes_on_from_what_was_included(database: Database) -> None:
    asked = "_id=c2&_include=Condition:encounter&_include:iterate=Encounter:part-of&_include:iterate=Encounter:patient"
    assert included(database, "Condition", asked) == "e1 e2 p1 p2"
    asked = "_id=o1&_include=Observation:patient&_include:iterate=Patient:organization&_revinclude:iterate=Encounter:patient"
    assert included(database, "Observation", asked) == "e1 org p1"


def test_rule_32_no_resource_is_there_twice(database: Database) -> None:
    found = page(database, "Encounter", "_include=Encounter:part-of&_revinclude=Encounter:part-of")
    assert [one.id for one in found.matches] == ["e1", "e2"] and found.included == []


# --- rule 49: what one may not see ----------------------------------------------------------------------------------------


def test_rule_49_nothing_leaks_through_includes_chains_or_has(database: Database) -> None:
    little = principal(scopes=["system/Observation.rs"], name="lab")
    assert included(database, "Observation", "_id=o1&_include=*", who=little) == ""
    assert ids(database, "Observation", "patient=p1", who=little) == "o1 o2 o3"
    for type_, asked in (
        ("Observation", "patient.identifier=0001"), ("Observation", "encounter.patient.identifier=0001"),
        ("Observation", "subject:Patient.name=山"), ("Encounter", "_has:Condition:encounter:code=x"),
    ):  # fmt: skip
        with pytest.raises(Forbidden):
            page(database, type_, asked, who=little)


# --- speed ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def statements(database: Database) -> Iterator[list[str]]:
    seen: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        seen.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    yield seen
    event.remove(database.engine, "before_cursor_execute", note)


def test_a_page_takes_few_statements_however_long_it_is(database: Database, statements: list[str]) -> None:
    page(database, "Observation", "code=4548-4&_count=1&_include=Observation:patient")
    short = len(statements)
    page(database, "Observation", "code=4548-4&_count=100&_include=Observation:patient")
    assert len(statements) - short <= short <= 6
