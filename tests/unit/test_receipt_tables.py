"""Forms of the tables under app/receipts/starter and what they say of each other."""

import datetime
import re
from pathlib import Path

import pytest

STARTER = Path(__file__).parents[2] / "app" / "receipts" / "starter"
HEADERS = {
    "acts": "code name points unit min_age max_age sex reason valid_from valid_to",
    "drugs": "code name unit price yj valid_from valid_to",
    "diseases": "code name icd10 valid_to successor",
    "modifiers": "code name valid_to",
    "comments": "code name valid_to",
    "indications": "subject kind icd10 reference",
    "contraindications": "subject icd10 reference",
    "limits": "code per most reference",
    "people": "subject kind sex min_age max_age reference",
    "duplicates": "a b per reference",
}
LEAST = {
    "acts": 220,
    "drugs": 260,
    "diseases": 220,
    "modifiers": 60,
    "comments": 40,
    "indications": 210,
    "contraindications": 40,
    "limits": 60,
    "people": 60,
    "duplicates": 30,
}
ICD10 = re.compile(r"[A-Z][0-9]{0,3}")
PERIODS = {"day", "week", "month", "claim"}


def rows(name):
    lines = (STARTER / f"{name}.tsv").read_text(encoding="utf-8").split("\n")
    header = lines[0].split("\t")
    return [dict(zip(header, line.split("\t"), strict=True)) for line in lines[1:-1]]


@pytest.fixture(scope="module")
def tables():
    return {name: rows(name) for name in HEADERS}


def is_day(text):
    try:
        return re.fullmatch(r"[0-9]{8}", text) is not None and bool(datetime.date.fromisoformat(text))
    except ValueError:
        return False


def age_error(row):
    ages = [row["min_age"], row["max_age"]]
    if any(age and not re.fullmatch(r"[0-9]|[1-9][0-9]|1[01][0-9]", age) for age in ages):
        return "age"
    return "order" if all(ages) and int(ages[0]) > int(ages[1]) else ""


def prefixes(row):
    return row["icd10"].split(" ")


@pytest.mark.parametrize("name", sorted(HEADERS))
def test_file(name):
    data = (STARTER / f"{name}.tsv").read_bytes()
    text = data.decode("utf-8")
    assert not text.startswith("\ufeff") and "\r" not in text and text.endswith("\n") and "\n\n" not in text
    assert text.split("\n")[0].split("\t") == HEADERS[name].split()
    for line in text.split("\n")[1:-1]:
        cells = line.split("\t")
        assert len(cells) == len(HEADERS[name].split()), line
        assert all(cell == cell.strip() for cell in cells), line


@pytest.mark.parametrize("name", sorted(HEADERS))
def test_sorted_without_doubles(name, tables):
    width = 2 if name == "duplicates" else 1
    keys = [tuple(row.values())[:width] for row in tables[name]]
    assert len(keys) >= LEAST[name]
    assert keys == sorted(keys)
    assert len(keys) == len(set(keys))


def test_every_file_is_described():
    readme = (STARTER / "README.md").read_text(encoding="utf-8")
    assert {path.stem for path in STARTER.glob("*.tsv")} == set(HEADERS)
    for name, header in HEADERS.items():
        assert f"`{name}.tsv`" in readme
        for column in header.split():
            assert f"`{column}`" in readme, column


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("acts", r"1[1-9][0-9]{7}"),
        ("drugs", r"6[0-9]{8}"),
        ("diseases", r"[0-9]{7}"),
        ("modifiers", r"[0-9]{4}"),
        ("comments", r"8[0-9]{8}"),
    ],
)
def test_codes(name, form, tables):
    assert [row["code"] for row in tables[name] if not re.fullmatch(form, row["code"])] == []
    assert {row["code"] for row in tables[name] if not row["name"]} <= {"810000001"}


@pytest.mark.parametrize("name", ["acts", "drugs", "diseases", "modifiers", "comments"])
def test_dates(name, tables):
    for row in tables[name]:
        first, last = row.get("valid_from", "19000101"), row["valid_to"]
        assert is_day(first) and (last == "99999999" or is_day(last)) and first <= last, row


def test_acts(tables):
    for row in tables["acts"]:
        assert re.fullmatch(r"0|[1-9][0-9]*", row["points"]), row
        assert not age_error(row), row
        assert row["sex"] in ("male", "female", "") and bool(row["sex"]) == bool(row["reason"]), row


def test_drugs(tables):
    for row in tables["drugs"]:
        assert re.fullmatch(r"[1-9][0-9]*\.[0-9]{2}", row["price"]), row
        assert re.fullmatch(r"[0-9]{7}[A-Z][0-9]{4}", row["yj"]), row
        assert row["unit"], row
    assert len({row["yj"] for row in tables["drugs"]}) == len(tables["drugs"])


def test_diseases(tables):
    for row in tables["diseases"]:
        assert re.fullmatch(r"[A-Z][0-9]{2}[0-9]?", row["icd10"]) or row["code"] == "0000999", row
        assert re.fullmatch(r"([0-9]{7})?", row["successor"]), row
        assert not row["successor"] or row["valid_to"] != "99999999", row


def test_known_rows(tables):
    named = {name: {row["code"]: row["name"] for row in tables[name]} for name in ("acts", "modifiers", "comments")}
    assert named["acts"]["111000110"] == "初診料"
    assert named["acts"]["160010010"] == "ＨｂＡ１ｃ"
    assert named["modifiers"]["8002"] == "の疑い"
    assert named["comments"]["810000001"] == ""


@pytest.mark.parametrize("name", ["indications", "contraindications", "limits", "people", "duplicates"])
def test_references(name, tables):
    assert [row for row in tables[name] if not row["reference"]] == []


@pytest.mark.parametrize("name", ["indications", "contraindications", "people"])
def test_subjects(name, tables):
    acts = {row["code"] for row in tables["acts"]}
    drugs = {row["yj"][:7] for row in tables["drugs"]}
    for row in tables[name]:
        kind = row.get("kind", "drug")
        assert kind in (("act", "drug", "icd10") if name == "people" else ("act", "drug")), row
        if kind == "icd10":
            assert ICD10.fullmatch(row["subject"]), row
        else:
            assert row["subject"] in (acts if kind == "act" else drugs), row


@pytest.mark.parametrize("name", ["indications", "contraindications"])
def test_prefixes(name, tables):
    for row in tables[name]:
        codes = prefixes(row)
        assert all(ICD10.fullmatch(code) for code in codes), row
        assert codes == sorted(set(codes)), row
        assert not [code for code in codes for other in codes if code != other and code.startswith(other)], row


def test_every_indication_has_a_disease(tables):
    known = [row["icd10"] for row in tables["diseases"]]
    for row in tables["indications"]:
        assert any(code.startswith(prefix) for prefix in prefixes(row) for code in known), row


def test_no_drug_is_for_and_against_one_disease(tables):
    against = {row["subject"]: set(prefixes(row)) for row in tables["contraindications"]}
    for row in tables["indications"]:
        assert not against.get(row["subject"], set()) & set(prefixes(row)), row


def test_limits(tables):
    acts = {row["code"] for row in tables["acts"]}
    for row in tables["limits"]:
        assert row["code"] in acts, row
        assert row["per"] in PERIODS, row
        assert re.fullmatch(r"[1-9][0-9]?", row["most"]), row


def test_people(tables):
    acts = {row["code"]: row for row in tables["acts"]}
    for row in tables["people"]:
        assert row["sex"] in ("male", "female", ""), row
        assert not age_error(row), row
        assert row["sex"] or row["min_age"] or row["max_age"], row
        if row["kind"] == "act":
            act = acts[row["subject"]]
            assert [row[key] for key in ("sex", "min_age", "max_age")] == [
                act[key] for key in ("sex", "min_age", "max_age")
            ], row


def test_people_has_every_act_with_a_limit(tables):
    listed = {row["subject"] for row in tables["people"]}
    assert {row["code"] for row in tables["acts"] if row["sex"] or row["min_age"] or row["max_age"]} <= listed


def test_duplicates(tables):
    acts = {row["code"] for row in tables["acts"]}
    for row in tables["duplicates"]:
        assert {row["a"], row["b"]} <= acts, row
        assert row["a"] < row["b"], row
        assert row["per"] in PERIODS, row
