"""The records of a medical claim file (UKE), field by field.

Source: 社会保険診療報酬支払基金, オンライン又は光ディスク等による請求に係る記録条件仕様（医科用）. Positions count from 1, as there; the
first field is the record's kind. Only what is listed here is read; further fields are kept as they are.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

Parse = Callable[[str], Any]

# 元号区分 of dates written before the change to Gregorian years: 1 明治, 2 大正, 3 昭和, 4 平成, 5 令和. Year 1 of each.
_ERAS = {"1": 1868, "2": 1912, "3": 1926, "4": 1989, "5": 2019}


@dataclass(frozen=True)
class Field:
    """One field. `parse` raises ValueError, with what is wrong in English, for what does not fit; blank is None, or a fault
    where it is `required`."""

    position: int
    name: str
    parse: Parse
    required: bool = False


def _text(longest: int) -> Parse:
    def parse(written: str) -> str:
        if len(written) > longest:
            raise ValueError(f"has {len(written)} characters; at most {longest} are allowed")
        return written

    return parse


def _pattern(expression: str, wanted: str) -> Parse:
    compiled = re.compile(expression, re.ASCII)

    def parse(written: str) -> str:
        if not compiled.fullmatch(written):
            raise ValueError(f"must be {wanted}")
        return written

    return parse


def _code(digits: int) -> Parse:
    return _pattern(rf"[0-9]{{{digits}}}", f"{digits} digits")


def _one_of(choices: str) -> Parse:
    allowed = choices.split()

    def parse(written: str) -> str:
        if written not in allowed:
            raise ValueError("must be one of " + ", ".join(allowed))
        return written

    return parse


def _whole(most: int) -> Parse:
    def parse(written: str) -> int:
        if not re.fullmatch(rf"[0-9]{{1,{most}}}", written, re.ASCII):
            raise ValueError(f"must be a whole number of at most {most} digits")
        return int(written)

    return parse


def _decimal(written: str) -> Decimal:
    if not re.fullmatch(r"[0-9]{1,8}(\.[0-9]{1,5})?", written, re.ASCII):
        raise ValueError("must be a number with at most 8 digits before and 5 behind the point")
    return Decimal(written)


def parse_date(written: str) -> date:
    """YYYYMMDD, or GYYMMDD with the number of the era. Raises: ValueError."""
    year, rest = _year(written, 4)
    try:
        return date(year, int(rest[:2]), int(rest[2:]))
    except ValueError:
        raise ValueError("is not a day of the calendar") from None


def parse_month(written: str) -> date:
    """YYYYMM, or GYYMM with the number of the era; the month's first day. Raises: ValueError."""
    year, rest = _year(written, 2)
    try:
        return date(year, int(rest), 1)
    except ValueError:
        raise ValueError("is not a month of the calendar") from None


def _year(written: str, rest: int) -> tuple[int, str]:
    if not re.fullmatch(r"[0-9]+", written, re.ASCII) or len(written) not in (4 + rest, 3 + rest):
        raise ValueError("must be written YYYYMM" + "DD" * (rest == 4))
    if len(written) == 4 + rest:
        return int(written[:4]), written[4:]
    if written[0] not in _ERAS:
        raise ValueError("begins with no number of an era (1 to 5)")
    return _ERAS[written[0]] + int(written[1:3]) - 1, written[3:]


_DISEASE_MODIFIERS = _pattern(r"([0-9]{4}){1,20}", "up to 20 modifier codes of 4 digits")
_COMMENTS = (("comment_1", "text_1"), ("comment_2", "text_2"), ("comment_3", "text_3"))


def _item(code: str, head: int, amount: str) -> tuple[Field, ...]:
    """SI and IY: the same places; `head`: where the comments begin. 31 days follow them."""
    fields = [
        Field(2, "section", _code(2)),
        Field(3, "burden", _pattern(r"[0-9A-Z]", "one digit or letter")),
        Field(4, code, _code(9), required=True),
        Field(5, amount, _decimal),
        Field(6, "points", _whole(7)),
        Field(7, "times", _whole(3)),
    ]
    return (*fields, *_comments_and_days(head))


def _comments_and_days(head: int) -> tuple[Field, ...]:
    comments = [
        field
        for n, (comment, text) in enumerate(_COMMENTS)
        for field in (Field(head + 2 * n, comment, _code(9)), Field(head + 2 * n + 1, text, _text(100)))
    ]
    first = head + 2 * len(_COMMENTS)
    return (*comments, *(Field(first + n, f"day_{n + 1}", _whole(3)) for n in range(31)))


LAYOUT: Mapping[str, tuple[Field, ...]] = {
    # 医療機関情報
    "IR": (
        Field(2, "payer", _one_of("1 2"), required=True),  # 審査支払機関: 1 支払基金, 2 国保連
        Field(3, "prefecture", _code(2), required=True),
        Field(4, "fee_table", _one_of("1"), required=True),  # 点数表: 1 医科
        Field(5, "institution", _code(7), required=True),
        Field(7, "name", _text(40)),
        Field(8, "claimed", parse_month, required=True),
        Field(9, "volume", _code(2)),
        Field(10, "phone", _text(15)),
    ),
    # レセプト共通
    "RE": (
        Field(2, "number", _whole(6), required=True),
        Field(3, "type", _code(4), required=True),  # レセプト種別: the last digit is odd for inpatients
        Field(4, "month", parse_month, required=True),
        Field(5, "name", _text(40), required=True),
        Field(6, "sex", _one_of("1 2"), required=True),
        Field(7, "birth_date", parse_date, required=True),
        Field(9, "admitted", parse_date),
        Field(14, "chart_number", _text(20)),
        Field(19, "search_number", _text(30)),
        Field(37, "kana", _text(40)),
    ),
    # 保険者
    "HO": (
        Field(2, "insurer", _pattern(r"[ 0-9]{8}", "8 digits"), required=True),
        Field(3, "symbol", _text(38)),
        Field(4, "number", _text(38)),
        Field(5, "days", _whole(2)),
        Field(6, "points", _whole(8)),
    ),
    # 公費
    "KO": (
        Field(2, "payer", _pattern(r"[ 0-9]{8}", "8 digits"), required=True),
        Field(3, "recipient", _pattern(r"[ 0-9]{7}", "7 digits")),
        Field(5, "days", _whole(2)),
        Field(6, "points", _whole(8)),
    ),
    # 資格確認
    "SN": (
        Field(2, "burden", _pattern(r"[0-9]", "one digit"), required=True),
        Field(3, "checked", _code(2)),
        Field(7, "branch", _code(2)),
    ),
    # 受診日等
    "JD": (
        Field(2, "burden", _pattern(r"[0-9]", "one digit"), required=True),
        *(Field(2 + day, f"day_{day}", _whole(1)) for day in range(1, 32)),
    ),
    # 窓口負担額
    "MF": (Field(2, "kind", _code(2), required=True),),
    # 傷病名
    "SY": (
        Field(2, "disease", _code(7), required=True),
        Field(3, "started", parse_date, required=True),
        Field(4, "outcome", _one_of("1 2 3 4"), required=True),  # 転帰: 1 other, 2 治ゆ, 3 死亡, 4 中止
        Field(5, "modifiers", _DISEASE_MODIFIERS),
        Field(6, "name", _text(200)),
        Field(7, "main", _one_of("01")),
        Field(8, "note", _text(20)),
    ),
    # 診療行為, 医薬品
    "SI": _item("act", 8, "amount"),
    "IY": _item("drug", 8, "amount"),
    # 特定器材
    "TO": (
        Field(2, "section", _code(2)),
        Field(3, "burden", _pattern(r"[0-9A-Z]", "one digit or letter")),
        Field(4, "material", _code(9), required=True),
        Field(5, "amount", _decimal),
        Field(6, "points", _whole(7)),
        Field(7, "times", _whole(3)),
        Field(8, "unit", _code(3)),
        Field(9, "unit_price", _decimal),
        Field(11, "product", _text(300)),
        *_comments_and_days(12),
    ),
    # コメント
    "CO": (
        Field(2, "section", _code(2)),
        Field(3, "burden", _pattern(r"[0-9A-Z]", "one digit or letter")),
        Field(4, "comment", _code(9), required=True),
        Field(5, "text", _text(200)),
    ),
    # 日計表
    "NI": (),
    # 症状詳記
    "SJ": (Field(2, "kind", _code(2), required=True), Field(3, "text", _text(1200), required=True)),
    # 診療報酬請求書
    "GO": (
        Field(2, "claims", _whole(6), required=True),
        Field(3, "points", _whole(10), required=True),
        Field(4, "volume", _code(2), required=True),
    ),
}
"""Kinds of records that are read. A file may hold others (返戻, 履歴 …): they are kept, and nothing is said of them."""
