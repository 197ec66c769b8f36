"""Masters of drugs and of their usage: price list, receipt master, HOT, YJ, general names, 電子処方箋 用法マスタ.

The 12-character code of the price list equals the YJ code where a product is listed under its brand; characters 10 and 11
are then not `01`. `01` is a listing under a common name (統一名収載), whose products have YJ codes of their own: such a
row gives no YJ code. Source: MEDIS-DC's HOT master, which shows both codes of each product.

The codes of the price list and of receipts have no URI: their `urn:hyojun:` codings tell tables apart, and must not
leave this software.

Facts: `drug_code` the 12 characters, `ingredient`, `brand` (the name before form and strength), `unbranded` (the name
without its maker), `strength`, `form`, `unit`, `maker`. Medication allergens (JP-CLINS: YCM + YJ, GCM + nine characters
of it + ZZZ) are made from `drug_code`, `ingredient` and `brand` by whoever builds the lexicon.
"""

import re
import unicodedata
from datetime import date

from app.terminology.entries import Part
from app.terminology.importers import uris
from app.terminology.importers.layouts import Column, Item, Layout, Row, day, ended, flat, shape
from schemas import systems
from schemas.statement import Kind

_CODE = shape(r"\d{7}[A-Z]\d{4}", "12 characters: 7 digits, a letter, 4 digits")
_CODE_LIKE = shape(r"\d{4}[0-9A-Z]{8}", "12 characters that begin with 4 digits")
# Listed from long to short, as a form is cut where its longest name fits.
FORMS = (
    "口腔内崩壊フィルム", "腸溶性カプセル", "口腔内崩壊錠", "ドライシロップ", "徐放カプセル", "腸溶カプセル", "吸入用カプセル",
    "腸溶細粒", "徐放顆粒", "腸溶顆粒", "腸溶錠", "徐放錠", "分散錠", "舌下錠", "チュアブル錠", "チュアブル", "バッカル錠", "腟錠",
    "OD錠", "ODフィルム", "SR錠", "CR錠", "LA錠", "XR錠", "ER錠", "DS", "錠", "カプセル", "細粒", "顆粒", "散", "末", "シロップ用",
    "シロップ", "内用ゼリー", "ゼリー", "内服液", "内用液", "経口液", "点眼液", "点鼻液", "点耳液", "点眼・点鼻液", "吸入液",
    "外用液", "液", "眼軟膏", "軟膏", "クリーム", "ゲル", "ローション", "フォーム", "スプレー", "テープ", "パップ", "パッチ",
    "坐剤", "坐薬", "注腸", "トローチ", "うがい液", "含嗽用", "エアゾール", "吸入用", "吸入", "点滴静注用", "点滴静注液",
    "点滴静注", "静注用", "静注液", "静注", "皮下注用", "皮下注", "筋注用", "筋注", "注射用", "注射液", "注用", "注", "輸液",
)  # fmt: skip
_FORM = re.compile(rf"({'|'.join(sorted(map(re.escape, FORMS), key=len, reverse=True))})(?=$|[\s\d.%(「]|小児用)")
_STRENGTH = re.compile(r"\d[\d.,]*\s*(?:mg|μg|µg|mcg|ng|g|kg|%|mL|L|mEq|mmol|mol|IU|単位|万単位|国際単位|kBq|MBq|GBq)")
_SPEC = re.compile(r"(?P<strength>.*[^\d.])?(?P<count>\d+(?:\.\d+)?)(?P<unit>[^\d.]+)")


def folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip()


def name_facts(name: str, *, common: bool = False) -> dict[str, str]:
    """Brand, form and the name without its maker, of a product name as printed.

    A name with its maker in 「」 is a common name, and so is one that the price list says is one (`common`): no brand.
    """
    written = folded(name)
    unbranded = re.sub(r"「[^」]*」", "", written).strip()
    form, strength = _FORM.search(unbranded), _STRENGTH.search(unbranded)
    cut = min(found.start() for found in (form, strength) if found) if form or strength else len(unbranded)
    brand = re.sub(r"(?:小児用|配合|小児用配合)$", "", unbranded[:cut].strip())
    facts = {"form": form[1] if form else ""}
    if unbranded != written:
        facts["unbranded"] = unbranded
    elif len(brand) > 1 and not common:
        facts["brand"] = brand
    return facts


def spec_facts(spec: str) -> dict[str, str]:
    """Strength and counting unit of a 規格: 5mg and 錠 of ５ｍｇ１錠, 1% and g of １％１ｇ, g alone of １ｇ."""
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", folded(spec))
    found = _SPEC.fullmatch(re.sub(r"(?<=.)\([^()]*\)$", "", plain))  # 2L1袋(排液用バッグ付)
    if found is None:
        return {}
    return {"strength": (found["strength"] or "").strip(), "unit": found["unit"].strip()}


def is_brand_listed(code: str) -> bool:
    return bool(code) and code[9:11] != "01"


def _with_yj(own: tuple[str, str, str], price_code: str) -> tuple[tuple[str, str, str], ...]:
    return (own, (systems.YJ, price_code, own[2])) if is_brand_listed(price_code) else (own,)


def _facts(*groups: dict[str, str], **facts: str) -> dict[str, str]:
    return {key: value for group in (*groups, facts) for key, value in group.items() if value}


def _until(text: str) -> str:
    """20260331 of R8.3.31まで, 2026/03/31 or 20260331; "" when it says nothing of the kind."""
    written = flat(text)
    if found := re.search(r"R(\d{1,2})\.(\d{1,2})\.(\d{1,2})", written):
        return f"{2018 + int(found[1])}{int(found[2]):02}{int(found[3]):02}"
    if found := re.search(r"(20\d{2})[/.年-](\d{1,2})[/.月-](\d{1,2})", written):
        return f"{found[1]}{int(found[2]):02}{int(found[3]):02}"
    return written if re.fullmatch(r"20\d{6}", written) else ""


def _price(row: Row, today: date) -> Item:
    code, name = row["code"], row["name"]
    until = _until(row["until"])
    codings = _with_yj((uris.PRICE_LIST, code, name), code)
    return Item(
        row.where, uris.PRICE_LIST, code, name, Kind.PRESCRIPTION, (name,), codings,
        _facts(
            name_facts(name, common=not is_brand_listed(code)), spec_facts(row["spec"]), drug_code=code,
            ingredient=folded(row["ingredient"]), maker=folded(row["maker"]), category=row["section"], common_name="" if is_brand_listed(code) else "true",
            valid_until=until, retired="true" if ended(until, today) else "",
        ),
    )  # fmt: skip


PRICE = Layout(
    "price", "the 薬価基準収載品目リスト of the ministry",
    (
        Column("code", "薬価基準収載医薬品コード", check=_CODE),
        Column("ingredient", "成分名"),
        Column("spec", "規格"),
        Column("name", "品名"),
        Column("price", "薬価", check=shape(r"[\d,]+(?:\.\d+)?", "a number")),
        Column("section", "区分", required=False),
        Column("maker", "メーカー名", required=False),
        Column("until", "経過措置による使用期限", header="経過措置による使用期限.*", required=False),
    ),
    _price, minimum=10_000,
)  # fmt: skip


def _ssk_drug(row: Row, today: date) -> Item:
    code = row["code"]
    name = row["full"] or row["name"]
    price = row["drug"]
    codings = _with_yj((uris.RECEIPT_DRUG, code, name), price)
    retired = row["change"] in ("1", "9") or ended(row["until"], today)
    return Item(
        row.where, uris.RECEIPT_DRUG, code, name,
        # Without a code of the price list it is no drug: reductions of fees stand in this master too.
        Kind.PRESCRIPTION if price else None, tuple(dict.fromkeys((name, row["name"]))), codings,
        _facts(
            name_facts(row["name"], common=not is_brand_listed(price)) if price else {}, drug_code=price, unit=folded(row["unit"]), generic_code=row["generic"],
            generic_name=row["generic_name"], valid_until=row["until"].removeprefix("99999999"),
            retired="true" if retired else "",
        ),
        folded(row["kana"]),
    )  # fmt: skip


SSK_DRUG = Layout(
    "ssk-drug", "the 医薬品マスター of SSK (y_…)",
    (
        Column("change", "変更区分", 1, check=shape(r"\d", "one digit")),
        Column("master", "マスター種別", 2, check=shape("Y", "Y")),
        Column("code", "医薬品コード", 3, check=shape(r"\d{9}", "9 digits")),
        Column("name", "漢字名称", 5),
        Column("kana", "カナ名称", 7, required=False),
        Column("unit", "単位漢字名称", 10, required=False),
        Column("until", "廃止年月日", 31, check=day, required=False),
        Column("drug", "薬価基準収載医薬品コード", 32, check=_CODE_LIKE, required=False),
        Column("full", "基本漢字名称", 35, required=False),
        Column("generic", "一般名コード", 37, check=_CODE_LIKE, required=False),
        Column("generic_name", "一般名処方の標準的な記載", 38, required=False),
    ),
    _ssk_drug, minimum=10_000, widths=range(35, 51), first="変更区分",
)  # fmt: skip


def _hot(row: Row, today: date) -> Item:
    hot9, name = row["code"][:9], row["name"] or row["notice"]
    codings = [
        (systems.HOT9, hot9, name), (systems.YJ, row["yj"], name), (systems.HOT7, row["hot7"], name),
    ]  # fmt: skip
    return Item(
        row.where, systems.HOT9, hot9, name, Kind.PRESCRIPTION,
        tuple(dict.fromkeys(text for text in (name, row["receipt_name"]) if text)),
        tuple(coding for coding in codings if coding[1]),
        _facts(
            name_facts(name), spec_facts(row["spec"]), drug_code=row["yj"], price_code=row["price"],
            receipt_code=row["receipt"], maker=folded(row["maker"]), category=row["section"],
        ),
    )  # fmt: skip


HOT = Layout(
    "hot", "the 医薬品HOTコードマスター of MEDIS-DC (HOT9 or HOT13)",
    (
        Column("code", "基準番号", header=r"基準番号(?:\(HOTコード\))?", check=shape(r"\d{9}(?:\d{4})?", "9 or 13 digits")),
        Column("hot7", "処方用番号", header=r"処方用番号(?:\(HOT7\))?", check=shape(r"\d{7}", "7 digits")),
        Column("name", "販売名"),
        Column("notice", "告示名称", required=False),
        Column("price", "薬価基準収載医薬品コード", check=_CODE_LIKE, required=False),
        Column("yj", "個別医薬品コード", check=_CODE_LIKE, required=False),
        Column("receipt", "レセプト電算処理システムコード(1)", header=r"レセプト電算処理システムコード\(?1\)?",
               check=shape(r"\d{9}", "9 digits"), required=False),
        Column("receipt_name", "レセプト電算処理システム医薬品名", required=False),
        Column("spec", "規格単位", required=False),
        Column("section", "区分", required=False),
        Column("maker", "製造会社", required=False),
        Column("updated", "更新年月日", check=day, required=False),
    ),
    _hot, minimum=10_000, several=True,
)  # fmt: skip


def _yj(row: Row, today: date) -> Item:
    code, name = row["code"], row["name"]
    return Item(
        row.where, systems.YJ, code, name, Kind.PRESCRIPTION, (name,), ((systems.YJ, code, name),),
        _facts(
            name_facts(name), spec_facts(row["spec"]), drug_code=code, ingredient=folded(row["ingredient"]),
            maker=folded(row["maker"]),
        ),
    )  # fmt: skip


YJ_LIST = Layout(
    "yj", "a list of YJ codes with the columns YJコード and 品名",
    (
        Column("code", "YJコード", header=r"(?:YJコード|個別医薬品コード)(?:\((?:YJコード|12桁)\))?", check=_CODE_LIKE),
        Column("name", "品名", header="品名|販売名|商品名|医薬品名|薬品名"),
        Column("ingredient", "成分名", header="成分名|一般名", required=False),
        Column("spec", "規格", header="規格|規格単位", required=False),
        Column("maker", "メーカー名", header="メーカー名|会社名|製造会社|製造販売会社", required=False),
    ),
    _yj, minimum=10_000,
)  # fmt: skip


def _generic(row: Row, today: date) -> Item:
    code, name = row["code"], row["name"]
    plain = re.sub(r"^【般】", "", folded(name)).strip()
    facts = name_facts(plain, common=True)
    return Item(
        row.where, systems.GENERAL_NAME, code, name, Kind.PRESCRIPTION, tuple(dict.fromkeys((name, plain))),
        ((systems.GENERAL_NAME, code, name),),
        _facts(
            facts, spec_facts(row["spec"]), ingredient=folded(row["ingredient"]), category=row["section"],
            common_name="true", exception="true" if row["exception"] else "",
        ),
    )  # fmt: skip


GENERIC = Layout(
    "generic", "the 一般名処方マスタ of the ministry",
    (
        Column("code", "一般名コード", check=_CODE_LIKE),
        Column("name", "一般名処方の標準的な記載"),
        Column("ingredient", "成分名"),
        Column("spec", "規格"),
        Column("section", "区分", required=False),
        Column("exception", "例外コード", required=False),
    ),
    # The second sheet lists the products of each exception code under the same names and with their own codes.
    _generic, minimum=1_000, without="薬価基準収載医薬品コード",
)  # fmt: skip


def _usage(row: Row, today: date) -> Item:
    code, name = row["code"], row["name"]
    until = _until(row["until"])
    return Item(
        row.where, systems.USAGE, code, name, Part.USAGE, (name,), ((systems.USAGE, code, name),),
        _facts(
            category=row["category"], method=row["method"], timing=row["timing"], code_class=row["class"],
            valid_from=_until(row["from"]), valid_until="" if until == "99999999" else until,
            retired="true" if ended(until, today) else "",
        ),
    )  # fmt: skip


USAGE_MASTER = Layout(
    "usage", "the 電子処方箋 用法マスタ of the ministry",
    (
        Column("code", "用法コード", check=shape(r"[0-9A-Z]{16}", "16 digits or capital letters")),
        Column("name", "用法名称", header="用法名称|用法名"),
        Column("category", "基本用法区分", header="基本用法区分(?:名称?)?", required=False),
        Column("method", "用法詳細区分", header="用法詳細区分(?:名称?)?", required=False),
        Column("timing", "タイミング指定区分", header="(?:投与)?タイミング(?:指定)?区分(?:名称?)?", required=False),
        Column("from", "開始日", header=".*開始(?:年月)?日", required=False),
        Column("until", "終了日", header=".*(?:終了|廃止)(?:年月)?日|.*使用期限", required=False),
        Column("class", "用法コード区分", header="用法コード区分.*", required=False),
    ),
    _usage, minimum=500,
)  # fmt: skip
