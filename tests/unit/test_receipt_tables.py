"""Forms of the tables under app/receipts/starter and what they say of each other."""

import datetime
import re
from pathlib import Path

import pytest

from app.errors import InvalidInput
from app.receipts.tables import Tables, fold

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
    "words": "subject word",
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
    "words": 1000,
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
    width = 2 if name in ("duplicates", "words") else 1
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


def test_words(tables):
    subjects = {row["code"] for row in tables["acts"]} | {row["yj"][:7] for row in tables["drugs"]}
    for row in tables["words"]:
        assert row["subject"] in subjects, row
        assert len(row["word"]) > 1 and row["word"] == fold(row["word"]), row
    named = {row["subject"] for row in tables["words"]}
    assert {row["yj"][:7] for row in tables["drugs"]} <= named
    assert {"160072510", "160093810", "160010010", "160068410", "170027910"} <= named


def test_tables_hold_every_row(tables):
    read = Tables.starter()
    assert read is Tables.starter() and not read.whole
    for name in ("acts", "drugs", "diseases", "modifiers", "comments", "indications", "contraindications", "people"):
        assert list(getattr(read, name)) == [next(iter(row.values())) for row in tables[name]], name
    for name in ("limits", "duplicates", "words"):
        assert sum(map(len, getattr(read, name).values())) == len(tables[name]), name
    assert read.acts["160010010"].points == 49 and read.acts["112011010"].valid_to is None
    assert read.drugs["620098801"].ingredient == "1149019" and str(read.drugs["620098801"].price) == "10.40"
    assert "E11" in read.indications["3962002"].icd10 and read.limits["160010010"][0].most == 1


def test_another_table_takes_the_place_of_one_kind():
    limits = "code\tper\tmost\treference\n160010010\tmonth\t2\t通則\n160010010\tday\t1\t通則\n"
    changed = Tables.of({"limits": limits}, whole=["limits", "acts"])
    assert [(limit.per, limit.most) for limit in changed.limits["160010010"]] == [("month", 2), ("day", 1)]
    assert changed.acts == Tables.starter().acts and changed.whole == {"limits"}
    assert changed.version != Tables.starter().version == Tables.of({}).version
    assert Tables.of({"limits": limits}).version != changed.version


@pytest.mark.parametrize(
    ("kind", "row", "place"),
    [
        ("limits", "16001001\tmonth\t1\t通則", "limits: line 2, column code"),
        ("limits", "160010010\tyear\t1\t通則", "limits: line 2, column per"),
        ("limits", "160010010\tmonth\t-1\t通則", "limits: line 2, column most"),
        ("limits", "160010010\tmonth\t1", "limits: line 2: has 3 columns"),
        ("limits", "160010010\tmonth\t1\t", "limits: line 2, column reference"),
        ("diseases", "2500013\t糖尿病\tE149\t20240231\t", "diseases: line 2, column valid_to"),
        ("diseases", "2500013\t糖尿病\tE14 e11\t99999999\t", "diseases: line 2, column icd10"),
        ("drugs", "620098801\t名\t錠\tNaN\t1149019F1560\t\t", "drugs: line 2, column price"),
        ("people", "C61\ticd\tmale\t\t\t通則", "people: line 2, column kind"),
        ("people", "C61\ticd10\tM\t\t\t通則", "people: line 2, column sex"),
    ],
)
def test_a_damaged_row_is_told_by_its_place(kind, row, place):
    with pytest.raises(InvalidInput, match=re.escape(place)):
        Tables.of({kind: "\t".join(HEADERS[kind].split()) + "\n" + row + "\n"})


def test_no_table_but_the_known_ones():
    with pytest.raises(InvalidInput, match="no kind of table: prices"):
        Tables.of({"prices": ""})
    with pytest.raises(InvalidInput, match="limits: line 1"):
        Tables.of({"limits": "code,per\n"})
