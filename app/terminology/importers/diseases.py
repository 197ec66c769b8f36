"""Masters of disease names and their modifiers: MEDIS-DC 標準病名マスター, and 傷病名/修飾語マスター of 社会保険診療報酬支払基金 (SSK).

Columns of nmain, mdfy and index: the header files that MEDIS-DC ships beside them (ttl_main.txt …). Columns of b_ and z_:
SSK, マスターファイル仕様説明書, checked against published rows. Both publishers keep one content in step.
"""

import re
from datetime import date

from app.terminology.entries import Part
from app.terminology.importers import uris
from app.terminology.importers.layouts import Column, Item, Layout, Row, day, ended, shape, version_by_name
from schemas import systems
from schemas.statement import Kind

UNCODED = frozenset({"0000999", "99999999"})
"""未コード化傷病名: what stands for a disease without a code must not be found by its name."""

_NUMBER = shape(r"\d{8}", "8 digits")
_EXCHANGE = shape(r"[0-9A-Z]{4}", "4 digits or capital letters")
# As published, without the dot: JP-CLINS' own example writes C169.
_ICD10 = shape(r"[A-Z]\d{2}[0-9A-Z]{0,2}", "an ICD-10 code without a dot")
_DIGIT = shape(r"\d", "one digit")
_TWO = shape(r"\d{1,2}", "one or two digits")


def _medis_version(name: str) -> str | None:
    """5.17 of nmain517.txt; else a date in the name."""
    found = re.match(r"(?:nmain|mdfy|index)(\d)(\d{2})(?!\d)", name.lower())
    return f"{found[1]}.{found[2]}" if found else version_by_name(name)


def _names(*names: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if name))


def _codings(*codings: tuple[str, str, str]) -> tuple[tuple[str, str, str], ...]:
    return tuple(coding for coding in codings if coding[1])


def _facts(**facts: str) -> dict[str, str]:
    return {key: value for key, value in facts.items() if value}


def _nmain(row: Row, today: date) -> Item:
    code, name = row["number"], row["name"]
    # A row with a successor is withdrawn (移行先病名管理番号); what 変更区分 means is not relied on.
    retired = row["successor"] not in ("", code)
    return Item(
        row.where, systems.DISEASE_KEY, code, name, None if code in UNCODED else Kind.CONDITION,
        _names(name, row["short"]),
        _codings(
            (systems.DISEASE_KEY, code, name), (systems.DISEASE_EXCHANGE, row["exchange"], name),
            (systems.RECEIPT_DISEASE, row["receipt"], name), (systems.ICD10, row["icd10"], name),
        ),
        _facts(
            adoption=row["adoption"], icd10_second=row["second"], change=row["change"].strip("0"),
            single_use_forbidden="true" if row["alone"].strip("0") else "",
            not_billable="true" if row["unbillable"].strip("0") else "",
            changed=row["changed"], retired="true" if retired else "", successor=row["successor"] if retired else "",
        ),
        row["kana"],
    )  # fmt: skip


NMAIN = Layout(
    "nmain", "the 病名基本テーブル of MEDIS-DC (nmain)",
    (
        Column("change", "変更区分", 1, check=_DIGIT),
        Column("number", "病名管理番号", 2, check=_NUMBER),
        Column("name", "病名表記", 3),
        Column("kana", "病名表記カナ", 4, required=False),
        Column("adoption", "採択区分", 5, check=_TWO, required=False),
        Column("exchange", "病名交換用コード", 6, check=_EXCHANGE, required=False),
        Column("icd10", "ICD10-2013", 7, check=_ICD10, required=False),
        Column("second", "ICD10-2013複数分類コード", 8, check=_ICD10, required=False),
        Column("receipt", "レセ電算コード", 11, check=shape(r"\d{7}", "7 digits"), required=False),
        Column("short", "傷病名省略名称", 12, required=False),
        Column("changed", "変更日付", 15, check=day, required=False),
        Column("successor", "移行先病名管理番号", 16, check=_NUMBER, required=False),
        Column("alone", "単独使用禁止区分", 17, check=_TWO, required=False),
        Column("unbillable", "保険請求外区分", 18, check=_TWO, required=False),
    ),
    _nmain, minimum=20_000, widths=range(20, 21), first="変更区分", version=_medis_version,
)  # fmt: skip


def _mdfy(row: Row, today: date) -> Item:
    code, name = row["number"], row["name"]
    # 接続位置区分: 10 and above stand before the disease name, 9 and below behind it.
    position = "prefix" if int(row["position"]) >= 10 else "postfix"
    return Item(
        row.where, systems.MODIFIER_KEY, code, name, Part.MODIFIER, (name,),
        _codings(
            (systems.MODIFIER_KEY, code, name), (systems.MODIFIER_EXCHANGE, row["exchange"], name),
            (systems.RECEIPT_MODIFIER, row["receipt"], name),
        ),
        _facts(position=position, category=row["category"], exclusive=row["exclusive"], change=row["change"].strip("0")),
        row["kana"],
    )  # fmt: skip


MDFY = Layout(
    "mdfy", "the 修飾語テーブル of MEDIS-DC (mdfy)",
    (
        Column("change", "変更区分", 1, check=_DIGIT),
        Column("number", "修飾語管理番号", 2, check=_NUMBER),
        Column("name", "修飾語表記", 3),
        Column("kana", "修飾語表記カナ", 4, required=False),
        Column("exchange", "修飾語交換用コード", 5, check=_EXCHANGE, required=False),
        Column("position", "接続位置区分", 6, check=_TWO),
        Column("category", "修飾語区分", 7, required=False),
        Column("exclusive", "排他グループコード", 8, required=False),
        Column("receipt", "レセ電算修飾語コード", 9, check=shape(r"\d{4}", "4 digits"), required=False),
    ),
    _mdfy, minimum=2_000, widths=range(10, 11), first="変更区分", version=_medis_version,
)  # fmt: skip


def _index(row: Row, today: date) -> Item | str:
    if row["script"] == "2":
        return "reading of a name (かな漢字区分 2)"
    system, exchange, kind = (
        (uris.DISEASE_INDEX, systems.DISEASE_EXCHANGE, Kind.CONDITION)
        if row["table"] == "1"
        else (uris.MODIFIER_INDEX, systems.MODIFIER_EXCHANGE, Part.MODIFIER)
    )
    name = row["term"]
    return Item(row.where, system, row["code"], name, kind, (name,), ((exchange, row["code"], name),), {"index": "true"})


INDEX = Layout(
    "index", "the 索引テーブル of MEDIS-DC (index)",
    (
        Column("term", "索引用語", 1),
        Column("code", "対応用語コード", 2, check=_EXCHANGE),
        Column("table", "病名修飾語区分", 3, check=shape("[12]", "1 or 2")),
        Column("script", "かな漢字区分", 4, check=_DIGIT, required=False),
    ),
    _index, minimum=20_000, widths=range(9, 10), first="索引用語", gather=True, version=_medis_version,
)  # fmt: skip


def _ssk_retired(row: Row, today: date) -> bool:
    # SSK, マスターファイル仕様説明書: 変更区分 1 抹消, 9 廃止; a code with another 移行先コード was moved.
    return row["change"] in ("1", "9") or ended(row["until"], today) or row["moved"] not in ("", row["code"])


def _ssk_disease(row: Row, today: date) -> Item:
    code, name = row["code"], row["name"]
    retired = _ssk_retired(row, today)
    moved = row["moved"] if row["moved"] != code else ""
    return Item(
        row.where, systems.RECEIPT_DISEASE, code, name, None if code in UNCODED else Kind.CONDITION,
        _names(name, row["short"]),
        _codings(
            (systems.RECEIPT_DISEASE, code, name), (systems.DISEASE_KEY, row["number"], name),
            (systems.DISEASE_EXCHANGE, row["exchange"], name), (systems.ICD10, row["icd10"], name),
        ),
        _facts(
            adoption=row["adoption"], icd10_second=row["second"],
            single_use_forbidden="true" if row["alone"].strip("0") else "",
            not_billable="true" if row["unbillable"].strip("0") else "",
            valid_from=row["from"].strip("0"), valid_until=row["until"].removeprefix("99999999"),
            retired="true" if retired else "", successor=moved if retired else "",
        ),
        row["kana"],
    )  # fmt: skip


SSK_DISEASE = Layout(
    "ssk-disease", "the 傷病名マスター of SSK (b_…)",
    (
        Column("change", "変更区分", 1, check=_DIGIT),
        Column("master", "マスター種別", 2, check=shape("B", "B")),
        Column("code", "傷病名コード", 3, check=shape(r"\d{7}", "7 digits")),
        Column("moved", "移行先コード", 4, check=shape(r"\d{7}", "7 digits"), required=False),
        Column("name", "傷病名基本名称", 6),
        Column("short", "傷病名省略名称", 8, required=False),
        Column("kana", "傷病名カナ名称", 10, required=False),
        Column("number", "病名管理番号", 11, check=_NUMBER, required=False),
        Column("adoption", "採択区分", 12, check=_TWO, required=False),
        Column("exchange", "病名交換用コード", 13, check=_EXCHANGE, required=False),
        Column("icd10", "ICD-10-1 (2013年版)", 16, check=_ICD10, required=False),
        Column("second", "ICD-10-2 (2013年版)", 17, check=_ICD10, required=False),
        Column("alone", "単独使用禁止区分", 19, check=_TWO, required=False),
        Column("unbillable", "保険請求外区分", 20, check=_TWO, required=False),
        Column("from", "収載年月日", 22, check=day, required=False),
        Column("until", "廃止年月日", 24, check=day, required=False),
    ),
    _ssk_disease, minimum=20_000, widths=range(46, 61), first="変更区分",
)  # fmt: skip


def _ssk_modifier(row: Row, today: date) -> Item:
    code, name = row["code"], row["name"]
    # SSK, マスターファイル仕様説明書: codes 8000 to 8999 stand behind the disease name (接尾語), others before it.
    return Item(
        row.where, systems.RECEIPT_MODIFIER, code, name, Part.MODIFIER, (name,),
        _codings(
            (systems.RECEIPT_MODIFIER, code, name), (systems.MODIFIER_KEY, row["number"], name),
            (systems.MODIFIER_EXCHANGE, row["exchange"], name),
        ),
        _facts(
            position="postfix" if code.startswith("8") else "prefix", category=row["category"],
            valid_from=row["from"].strip("0"), valid_until=row["until"].removeprefix("99999999"),
            retired="true" if _ssk_retired(row, today) else "",
        ),
        row["kana"],
    )  # fmt: skip


SSK_MODIFIER = Layout(
    "ssk-modifier", "the 修飾語マスター of SSK (z_…)",
    (
        Column("change", "変更区分", 1, check=_DIGIT),
        Column("master", "マスター種別", 2, check=shape("Z", "Z")),
        Column("code", "修飾語コード", 3, check=shape(r"\d{4}", "4 digits")),
        Column("name", "修飾語名称", 7),
        Column("kana", "修飾語カナ名称", 10, required=False),
        Column("from", "収載年月日", 14, check=day, required=False),
        Column("until", "廃止年月日", 16, check=day, required=False),
        Column("number", "修飾語管理番号", 17, check=_NUMBER, required=False),
        Column("exchange", "修飾語交換用コード", 18, check=_EXCHANGE, required=False),
        Column("category", "修飾語区分", 19, required=False),
    ),
    _ssk_modifier, minimum=2_000, widths=range(19, 25), first="変更区分",
)  # fmt: skip
