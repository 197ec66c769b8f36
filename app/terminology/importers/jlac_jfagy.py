"""Tables of laboratory tests and of allergens: JLAC10 17桁 まとめ表, and JFAGY."""

from datetime import date

from app.terminology.importers.layouts import Column, Item, Layout, Row, day, ended, shape
from schemas import systems
from schemas.statement import Kind


def _jlac10(row: Row, today: date) -> Item:
    code, name = row["code"], row["name"]
    # 臨床検査マスター まとめ表: item_identification_material_method_result, the second where characters 6 to 9 are not
    # 0000; some results have two parts, some rows no method.
    item, *parts = name.split("_")
    identification = parts.pop(0) if code[5:9] != "0000" and len(parts) > 1 else ""
    material, method, *result = (*parts, "", "")
    facts = {
        "item": item, "identification": identification, "specimen": material, "method": method, "result": "_".join(filter(None, result)),
        # JLAC10: analyte 5, identification 4, material 3, method 3, result 2 characters.
        "specimen_code": code[9:12], "method_code": code[12:15],
    }  # fmt: skip
    return Item(
        row.where, systems.JLAC10, code, name, Kind.LAB, (name,), ((systems.JLAC10, code, name),),
        {key: value for key, value in facts.items() if value},
    )  # fmt: skip


JLAC10_TABLE = Layout(
    "jlac10", "a JLAC10 table with the columns code and display (まとめ表)",
    (
        Column("code", "code", header="code|JLAC10コード(?:\\(17桁\\))?|検査項目コード|17桁コード",
               check=shape(r"[0-9A-Z]{17}", "17 digits or capital letters")),
        Column("name", "display", header="display|名称|項目名称|表示名|標準検査名称"),
    ),
    _jlac10, minimum=5_000,
)  # fmt: skip


def _jfagy(row: Row, today: date) -> Item | str:
    code, name = row["code"], row["name"]
    branch = code[2:3]
    if branch == "M":
        return "dummy code of medication, which is in no table of this file"
    system = systems.JFAGY_FOOD if branch == "F" else systems.JFAGY_OTHER
    dummy = not code.startswith("J9")  # 00F and 00N head the tables, D9… stand for an allergen without a code
    facts = {
        "category": "food" if branch == "F" else "", "english": row["english"], "level": row["level"],
        "main": "true" if row["main"] == "1" else "",
        "valid_from": row["from"].strip("0"), "valid_until": row["until"].removeprefix("99999999"),
        "retired": "true" if ended(row["until"], today) else "",
    }  # fmt: skip
    return Item(
        row.where, system, code, name, None if dummy else Kind.ALLERGY, (name,), ((system, code, name),),
        {key: value for key, value in facts.items() if value}, row["kana"],
    )  # fmt: skip


JFAGY = Layout(
    "jfagy", "the JFAGY allergen table (CSV)",
    (
        Column("code", "JFAGYCODE", check=shape(r"00[FN]|[DJ]9[FNM][0-9A-Z]{9}", "a JFAGY code")),
        Column("name", "JPTERM"),
        Column("kana", "JPKANA", required=False),
        Column("english", "ENTERM", required=False),
        Column("level", "LEVEL", check=shape("[1-6]", "1 to 6")),
        Column("main", "MAINFLAG", required=False),
        Column("from", "RECORDDATE", check=day),
        Column("until", "ENDDATE", check=day),
    ),
    _jfagy, minimum=1_500,
)  # fmt: skip
