"""Files of the publishers into concepts: encodings, layouts, and what is refused."""

import json
from collections import Counter
from datetime import date
from pathlib import Path

import masters
import pytest

from app.errors import InvalidInput
from app.terminology.entries import Part
from app.terminology.importers.codesystem import read_code_system
from app.terminology.importers.drugs import name_facts, spec_facts
from app.terminology.importers.files import Source, decode, read_source, read_tables
from app.terminology.importers.layouts import Item, read_items, version_by_name, version_by_title
from app.terminology.importers.releases import LAYOUTS
from app.terminology.importers.uris import PRICE_LIST, RECEIPT_DRUG, canonical
from schemas import systems
from schemas.statement import Kind

TODAY = date(2025, 9, 1)


def source(tmp_path: Path, name: str, data: bytes) -> Source:
    path = tmp_path / name
    path.write_bytes(data)
    return read_source(path)


def items(tmp_path: Path, kind: str, data: bytes | None = None, name: str = "file.csv") -> list[Item]:
    if data is None:
        name, data = masters.master(kind)
    return read_items(LAYOUTS[kind], read_tables(source(tmp_path, name, data)), TODAY, Counter())


def codes(item: Item) -> dict[str, str]:
    return {system: code for system, code, _ in item.codings}


# --- what each master becomes ----------------------------------------------------------------------------------------


def test_nmain(tmp_path: Path) -> None:
    first, second, old = items(tmp_path, "nmain")
    assert (first.system, first.code, first.display, first.kind) == (systems.DISEASE_KEY, "29000001", "甲乙炎", Kind.CONDITION)
    assert first.names == ("甲乙炎", "甲炎") and first.kana == "コウオツエン"
    assert list(codes(first).items()) == [
        (systems.DISEASE_KEY, "29000001"), (systems.DISEASE_EXCHANGE, "X001"), (systems.RECEIPT_DISEASE, "9900001"), (systems.ICD10, "K859"),
    ]  # fmt: skip
    assert "single_use_forbidden" not in first.facts and not first.retired
    assert second.facts["single_use_forbidden"] == "true" and second.facts["icd10_second"] == "D630"
    assert old.retired and old.facts["successor"] == "29000001"


def test_mdfy_and_z_say_on_which_side_a_modifier_stands(tmp_path: Path) -> None:
    for kind, system, other in (("mdfy", systems.MODIFIER_KEY, systems.RECEIPT_MODIFIER), ("ssk-modifier", systems.RECEIPT_MODIFIER, systems.MODIFIER_KEY)):
        before, behind = items(tmp_path, kind)
        assert before.system == system and before.kind is Part.MODIFIER
        assert (before.facts["position"], behind.facts["position"]) == ("prefix", "postfix")
        assert next(iter(codes(before))) == system
        assert codes(before)[other] in ("5901", "27900001")


def test_index_gives_synonyms_by_exchange_code_without_readings(tmp_path: Path) -> None:
    found = items(tmp_path, "index")
    assert [(item.display, item.code, item.kind) for item in found] == [
        ("甲乙性炎症", "X001", Kind.CONDITION), ("甲乙炎", "X001", Kind.CONDITION), ("甲性", "Y001", Part.MODIFIER),
    ]  # fmt: skip
    assert codes(found[0]) == {systems.DISEASE_EXCHANGE: "X001"}


def test_b_gives_the_key_number_and_what_has_run_out(tmp_path: Path) -> None:
    current, injury, moved, uncoded = items(tmp_path, "ssk-disease")
    assert list(codes(current)) == [systems.RECEIPT_DISEASE, systems.DISEASE_KEY, systems.DISEASE_EXCHANGE, systems.ICD10]
    assert codes(current)[systems.DISEASE_KEY] == "29000001" and current.facts["valid_from"] == "20200601"
    assert "valid_until" not in current.facts
    assert injury.facts["single_use_forbidden"] == "true"
    assert moved.retired and moved.facts["successor"] == "9900001" and moved.facts["valid_until"] == "20220531"
    assert uncoded.kind is None  # the dummy must not be found by its name


def test_y_of_2022_and_of_today(tmp_path: Path) -> None:
    for width in (35, 42):
        drug, unified, fee = items(tmp_path, "ssk-drug", masters.csv_text(masters.ssk_drug(width)).encode("cp932"))
        assert codes(drug) == {RECEIPT_DRUG: "629900001", systems.YJ: "9999001F1021"} and drug.facts["drug_code"] == "9999001F1021"
        assert (drug.facts["brand"], drug.facts["form"], drug.facts["unit"]) == ("コウヤク", "錠", "錠")
        assert drug.kana == "コウヤクジョウ5MG"
        assert ("generic_code" in drug.facts) == (width == 42)
        assert systems.YJ not in codes(unified) and unified.retired  # 01: listed under a common name, so no YJ code
        assert fee.kind is None


def test_price_list(tmp_path: Path) -> None:
    brand, common, old = items(tmp_path, "price")
    assert list(codes(brand).items()) == [(PRICE_LIST, "9999001F1021"), (systems.YJ, "9999001F1021")] and brand.kind is Kind.PRESCRIPTION
    assert brand.facts | {"x": ""} == {
        "form": "錠", "brand": "コウヤク", "strength": "5mg", "unit": "錠", "drug_code": "9999001F1021",
        "ingredient": "甲薬塩酸塩", "maker": "試験製薬", "category": "内用薬", "x": "",
    }  # fmt: skip
    assert codes(common) == {PRICE_LIST: "9999001F1013"} and common.facts["common_name"] == "true" and "brand" not in common.facts
    assert old.retired and old.facts["valid_until"] == "20240331" and old.facts["unbranded"] == "甲薬散1%"
    assert (old.facts["strength"], old.facts["unit"]) == ("1%", "g")


def test_jfagy_fills_two_tables(tmp_path: Path) -> None:
    skipped: Counter[str] = Counter()
    name, data = masters.master("jfagy")
    root, fruit, insect, old = read_items(LAYOUTS["jfagy"], read_tables(source(tmp_path, name, data)), TODAY, skipped)
    assert (root.code, root.kind, root.system) == ("00F", None, systems.JFAGY_FOOD)
    assert (fruit.system, fruit.kind, fruit.facts["category"], fruit.kana) == (systems.JFAGY_FOOD, Kind.ALLERGY, "food", "こうか")
    assert insect.system == systems.JFAGY_OTHER and "category" not in insect.facts
    assert old.display == "旧果, 丙" and old.retired and old.facts["valid_until"] == "20250331"
    assert list(skipped.values()) == [1]


def test_jlac10(tmp_path: Path) -> None:
    plain, typed = items(tmp_path, "jlac10")
    assert codes(plain) == {systems.JLAC10: "9Z990000002329101"} and plain.kind is Kind.LAB
    assert plain.facts == {
        "item": "甲物質", "specimen": "血清", "method": "反射測光法", "result": "定量値", "specimen_code": "023",
        "method_code": "291",
    }  # fmt: skip
    assert (typed.facts["identification"], typed.facts["specimen"]) == ("丙型", "血清")
    assert typed.facts["result"] == "判定_追加"


def test_hot_joins_hot_and_yj(tmp_path: Path) -> None:
    first, package, other = items(tmp_path, "hot")
    assert first.code == package.code == "199000101" and first.codings == package.codings
    assert codes(other)[systems.YJ] == "9999001F1048" and other.facts["price_code"] == "9999001F1013"
    assert codes(other)["http://medis.or.jp/CodeSystem/master-HOT7"] == "1990002"


def test_yj_generic_usage(tmp_path: Path) -> None:
    (drug,) = items(tmp_path, "yj")
    assert codes(drug) == {systems.YJ: "9999001F1021"} and drug.facts["ingredient"] == "甲薬塩酸塩"
    (general,) = items(tmp_path, "generic")
    assert codes(general) == {systems.GENERAL_NAME: "9999001F1ZZZ"} and general.names == ("【般】甲薬錠５ｍｇ", "甲薬錠5mg")
    now, old = items(tmp_path, "usage")
    assert codes(now) == {systems.USAGE: "1013044400000000"} and now.kind is Part.USAGE and not now.retired
    assert (now.facts["category"], now.facts["code_class"]) == ("内服", "標準コード")
    assert old.retired


def test_code_system(tmp_path: Path) -> None:
    skipped: Counter[str] = Counter()
    read = read_code_system(source(tmp_path, "a.json", masters.code_system()), skipped)
    assert (read.system, read.version, len(read.items)) == (systems.CORE_LAB, "9.9.0", 2)
    item = read.items[0]
    assert item.kind is Kind.LAB and item.names == ("甲", "甲物質")
    assert item.facts == {"parent": "KO", "specimen": "血清", "name_ja": "甲物質"}
    assert skipped == {"heading without a display": 1}


def test_an_old_oid_becomes_the_url_of_today(tmp_path: Path) -> None:
    old = {"resourceType": "CodeSystem", "url": "urn:oid:1.2.392.200250.2.2.20.20", "content": "fragment",
           "concept": [{"code": "1011000090000000", "display": "１日１回起床時"}]}  # fmt: skip
    read = read_code_system(source(tmp_path, "a.json", json.dumps(old).encode()), Counter())
    assert read.system == systems.USAGE_JAMI and read.version is None and read.items[0].kind is Part.USAGE
    assert canonical("urn:oid:1.2.392.200119.4.101.2") == systems.DISEASE_KEY
    assert canonical("http://example.org/x") == "http://example.org/x"


@pytest.mark.parametrize(
    ("name", "brand", "form"),
    [
        ("コウヤクＯＤ錠５ｍｇ", "コウヤク", "OD錠"), ("コウヤク５ｍｇ錠", "コウヤク", "錠"), ("コウヤク配合錠ＬＤ", None, None),
        ("甲陽散エキス顆粒（医療用）", "甲陽散エキス", "顆粒"), ("コウヤク－Ｎ　ＰＤ－４　１．５透析液", None, None),
        ("甲薬カプセル５０ｍｇ「試験」", "", "カプセル"),
    ],
)  # fmt: skip
def test_brand_and_form(name: str, brand: str | None, form: str | None) -> None:
    facts = name_facts(name)
    assert brand is None or facts.get("brand", "") == brand
    assert form is None or facts["form"] == form


@pytest.mark.parametrize(
    ("spec", "strength", "unit"),
    [
        ("５ｍｇ１錠", "5mg", "錠"), ("１％１ｇ", "1%", "g"), ("１ｇ", "", "g"), ("１％１０ｍＬ", "1%", "mL"),
        ("５００ｍＬ１袋", "500mL", "袋"), ("２Ｌ１袋（排液用バッグ付）", "2L", "袋"), ("１０ｃｍ×１４ｃｍ１枚", "10cm×14cm", "枚"),
        ("１，２００μｇ１キット", "1200μg", "キット"), ("０．５ｍｇ１ｍＬ１管", "0.5mg1mL", "管"),
    ],
)  # fmt: skip
def test_strength_and_unit(spec: str, strength: str, unit: str) -> None:
    assert spec_facts(spec) == {"strength": strength, "unit": unit}


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932"])
@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_encodings_and_line_ends(tmp_path: Path, encoding: str, end: str) -> None:
    expected = items(tmp_path, "nmain")
    data = masters.csv_text(masters.nmain(), end=end).encode(encoding)
    assert items(tmp_path, "nmain", data) == expected
    assert items(tmp_path, "nmain", data.rstrip() + b"\x1a") == expected


def test_a_header_row_is_recognised(tmp_path: Path) -> None:
    head = masters.row_of(20, c1="変更区分", c2="病名管理番号", c3="病名表記")
    data = masters.csv_text([head, *masters.nmain()]).encode("cp932")
    assert [item.code for item in items(tmp_path, "nmain", data)] == ["29000001", "29000002", "29000003"]


def test_a_file_cut_off_in_a_character(tmp_path: Path) -> None:
    for encoding in ("utf-8", "cp932"):
        data = masters.csv_text(masters.nmain(extra=300)).encode(encoding)
        cut = data.rindex("試験病".encode(encoding)) + 1
        with pytest.raises(InvalidInput, match="in the middle of a character \\(line 303\\)"):
            decode(source(tmp_path, "x", data[:cut]))


def test_a_damaged_byte_is_told_with_its_line(tmp_path: Path) -> None:
    for encoding in ("utf-8", "cp932"):
        data = bytearray(masters.csv_text(masters.nmain(extra=300)).encode(encoding))
        data[data.index("試験病200".encode(encoding))] = 0xFF
        with pytest.raises(InvalidInput, match="line 204"):
            decode(source(tmp_path, "x", bytes(data)))


def test_a_quote_that_never_closes(tmp_path: Path) -> None:
    data = masters.csv_text(masters.nmain()).encode("cp932")
    with pytest.raises(InvalidInput, match="line 3: unexpected end of data; cut off"):
        items(tmp_path, "nmain", data.rstrip()[:-1])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"), (b"\xd0\xcf\x11\xe0....", "old .xls"), (b"PK\x03\x04 broken", "cannot be read"),
        (bytes(range(128, 256)) * 40, "no Shift_JIS"),
    ],
)  # fmt: skip
def test_what_is_no_table(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        items(tmp_path, "nmain", data)


def test_a_zip_is_to_be_unpacked(tmp_path: Path) -> None:
    import io
    import zipfile

    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("b_20250601.txt", "x")
    with pytest.raises(InvalidInput, match="unpack it"):
        items(tmp_path, "ssk-disease", made.getvalue())


def test_a_workbook_keeps_places_and_leaves_readings_out(tmp_path: Path) -> None:
    data = masters.workbook({"a": [["甲", "", "丙"], [], ["", "乙"]], "b": [["1"]]})
    first, second = read_tables(source(tmp_path, "a.xlsx", data))
    assert first.rows == [(1, ["甲", "", "丙"]), (3, ["", "乙"])]
    assert (second.sheet, second.rows) == ("b", [(1, ["1"])])


def test_versions() -> None:
    assert version_by_name("b_ALL20250601.txt") == "20250601"
    assert version_by_name("utf8_JFAGY_J9FN_20250401_R01.csv") == "20250401_R01"
    assert version_by_name("jlac10_medis_matome_2022-09.tsv") == "2022-09"
    assert version_by_name("tp20250716-01_01.xlsx") == "20250716"
    assert version_by_name("001056865.xlsx") is version_by_name("20251399.csv") is None
    named = LAYOUTS["nmain"].version
    assert named is not None and named("nmain517.txt") == "5.17" and named("b_20250601.txt") == "20250601"


def test_the_version_stands_above_the_header(tmp_path: Path) -> None:
    tables = read_tables(source(tmp_path, *masters.master("generic")))
    assert version_by_title(LAYOUTS["generic"], tables) == "20260401"


# --- what is refused -------------------------------------------------------------------------------------------------


def changed(rows: list[list[str]], line: int, column: int, cell: str) -> bytes:
    rows[line - 1][column - 1] = cell
    return masters.csv_text(rows).encode("cp932")


@pytest.mark.parametrize(
    ("kind", "rows", "line", "column", "cell", "reason"),
    [
        ("nmain", masters.nmain, 2, 2, "2900000", "line 2, column 2 (病名管理番号): must be 8 digits, has 7 characters"),
        ("nmain", masters.nmain, 1, 3, "", "line 1, column 3 (病名表記): is empty"),
        ("nmain", masters.nmain, 1, 7, "K85.9", "line 1, column 7 (ICD10-2013): must be an ICD-10 code without a dot"),
        ("nmain", masters.nmain, 1, 15, "20250231", "line 1, column 15 (変更日付): must be a date YYYYMMDD"),
        ("mdfy", masters.mdfy, 2, 6, "前", "line 2, column 6 (接続位置区分): must be one or two digits"),
        ("index", masters.index, 3, 3, "7", "line 3, column 3 (病名修飾語区分): must be 1 or 2"),
        ("ssk-disease", masters.ssk_disease, 1, 2, "Z", "line 1, column 2 (マスター種別): must be B"),
        ("ssk-disease", masters.ssk_disease, 2, 24, "R7", "line 2, column 24 (廃止年月日): must be a date"),
        ("ssk-modifier", masters.ssk_modifier, 1, 17, "1", "line 1, column 17 (修飾語管理番号): must be 8 digits"),
        ("ssk-drug", masters.ssk_drug, 1, 3, "12", "line 1, column 3 (医薬品コード): must be 9 digits"),
        ("price", masters.price, 2, 2, "9999001F102", "line 2, column 2 (薬価基準収載医薬品コード): must be 12 characters"),
        ("price", masters.price, 3, 13, "高い", "line 3, column 13 (薬価): must be a number"),
        ("jfagy", masters.jfagy, 4, 2, "J9X", "line 4, column 2 (JFAGYCODE): must be a JFAGY code"),
        ("hot", masters.hot, 2, 1, "123", "line 2, column 1 (基準番号): must be 9 or 13 digits"),
    ],
)  # fmt: skip
def test_a_faulty_cell_is_named(
    tmp_path: Path, kind: str, rows: object, line: int, column: int, cell: str, reason: str
) -> None:
    assert callable(rows)
    with pytest.raises(InvalidInput) as refused:
        items(tmp_path, kind, changed(rows(), line, column, cell))
    message = str(refused.value)
    assert message.startswith(f"{kind}: ") and reason in message and "Nothing was stored" in message
    assert not cell or len(cell) < 2 or cell not in message  # it may be the wrong file, with patients in it


def test_a_row_of_another_width(tmp_path: Path) -> None:
    rows = masters.nmain()
    rows[1] = rows[1][:-3]
    with pytest.raises(InvalidInput, match=r"line 2: 17 columns where .* has 20"):
        items(tmp_path, "nmain", masters.csv_text(rows).encode("cp932"))


def test_many_faults_are_counted_and_few_are_listed(tmp_path: Path) -> None:
    rows = masters.nmain(extra=400)
    for row in rows:
        row[1] = "x"
    with pytest.raises(InvalidInput, match=r"line 1, .*line 2, .*\(and 401 more\)") as refused:
        items(tmp_path, "nmain", masters.csv_text(rows).encode("cp932"))
    assert len(str(refused.value)) < 1000


def test_every_master_is_refused_as_every_other(tmp_path: Path) -> None:
    alike = {("hot", "yj"), ("price", "yj")}  # a list of YJ codes is known by two of its columns alone
    for kind in LAYOUTS:
        for other in LAYOUTS:
            if kind != other and (kind, other) not in alike:
                name, data = masters.master(kind)
                with pytest.raises(InvalidInput):
                    items(tmp_path, other, data, name)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"resourceType": "CodeSystem",', "line 1, column .*: no JSON"),
        (b"[]", "no FHIR CodeSystem"),
        (b'{"resourceType": "ValueSet"}', "no FHIR CodeSystem"),
        (b'{"resourceType": "CodeSystem", "concept": [{"code": "a"}]}', "has no url"),
        (b'{"resourceType": "CodeSystem", "url": "u:x", "content": "supplement", "concept": [{"code": "a"}]}', "no concepts"),
        (b'{"resourceType": "CodeSystem", "url": "u:x", "concept": []}', "no concepts"),
        (b'{"resourceType": "CodeSystem", "url": "u:x", "concept": [{"display": "a"}]}', "concept 1: has no code"),
        (b'{"resourceType": "CodeSystem", "url": "u:x", "concept": [{"code": " a"}]}', "concept 1, code"),
        (b'{"resourceType": "CodeSystem", "url": "u:x", "count": 5, "concept": [{"code": "a", "display": "b"}]}',
         "says 5 concepts, there are 1"),
    ],
)  # fmt: skip
def test_a_code_system_that_is_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        read_code_system(source(tmp_path, "a.json", data), Counter())


def test_a_laboratory_code_has_seventeen_characters(tmp_path: Path) -> None:
    data = masters.code_system().replace(b"9Z990000002329901", b"9Z99000000232990")
    with pytest.raises(InvalidInput, match="concept 1 > concept 1, code: must be 17"):
        read_code_system(source(tmp_path, "a.json", data), Counter())
