"""A claim in words: its head, its lines, and what stands beside them. Full-width letters and digits are folded to ASCII."""

import calendar
from collections.abc import Mapping
from datetime import date
from decimal import Decimal

from app.receipts.tables import Tables, fold
from app.receipts.uke import Claim, Disease, Item

FREE_TEXT = "810000001"
_LABELS = {"SI": "診療行為", "IY": "医薬品", "TO": "特定器材"}
_OUTCOMES = {"2": "治ゆ", "3": "死亡", "4": "中止"}
# 別表 特定器材単位コード.
_UNITS: Mapping[str, str] = {
    f"{number:03}": name
    for number, name in enumerate(
        "分 回 種 箱 巻 枚 本 組 セット 個 裂 方向 トローチ アンプル カプセル 錠 丸 包 瓶 袋 瓶(袋) 管 シリンジ 回分 テスト分 ガラス筒 桿錠 単位 "
        "万単位 フィート 滴 mg g kg cc mL L mLV バイアル cm cm2 m μCi mCi μg 管(瓶) 筒 GBq MBq KBq キット 国際単位 患者当り 気圧 缶 手術当り "
        "容器 mL(g) ブリスター シート".split(),
        1,
    )
}


def age_on(birth: date, day: date) -> int:
    """Whole years. A year is full on the birthday itself; somebody born on 29 February has it on 1 March in other years."""
    return day.year - birth.year - ((day.month, day.day) < (birth.month, birth.day))


def month_end(month: date) -> date:
    return month.replace(day=calendar.monthrange(month.year, month.month)[1])


def head(claim: Claim, tables: Tables) -> str:
    """`男 54歳 入院外 2024年6月`; the age is that of the month's last day. What the claim does not tell is left out."""
    said = [] if claim.female is None else ["女" if claim.female else "男"]
    if claim.birth_date and claim.month:
        said.append(f"{age_on(claim.birth_date, month_end(claim.month))}歳")
    said.append("入院" if claim.inpatient else "入院外")
    if claim.month:
        said.append(f"{claim.month.year}年{claim.month.month}月")
    return " ".join(said)


def line_texts(claim: Claim, tables: Tables) -> dict[int, str]:
    """Line to text, of SY, SI, IY and TO in their order. A comment is no line of its own: `comments_of`."""
    texts = {disease.line: _disease_text(disease, tables) for disease in claim.diseases}
    texts.update((item.line, _item_text(item, claim, tables)) for item in claim.items)
    return dict(sorted(texts.items()))


def comments_of(claim: Claim, line: int, tables: Tables | None = None) -> tuple[str, ...]:
    """What the claim says beside a line: the comments of its own record, those of its 剤, the note of a disease. 症状詳記 (SJ)
    speaks of the claim as a whole and is left out. Without tables a comment that is only a code is told as one."""
    for item in claim.items:
        if item.line == line:
            beside = [(comment.code, comment.text) for comment in claim.comments if comment.group == item.group]
            return tuple(_comment_text(code, text, tables) for code, text in (*item.comments, *beside))
    note = next((r.values["note"] for r in claim.records if r.line == line and r.kind == "SY"), None)
    return (fold(note),) if note else ()


def _disease_text(disease: Disease, tables: Tables) -> str:
    said = ["傷病名", fold(tables.disease_name(disease))]
    if disease.started:
        said.append(f"{disease.started.year}年{disease.started.month}月{disease.started.day}日")
    if disease.ended and disease.outcome:
        said.append(_OUTCOMES[disease.outcome])
    if disease.main:
        said.append("主病")
    return " ".join(said)


def _item_text(item: Item, claim: Claim, tables: Tables) -> str:
    name, unit = tables.item_name(item), ""
    if item.kind == "TO":
        values = claim.record(item.line).values
        name, unit = values["product"] or name, _UNITS.get(values["unit"] or "", "個")
    elif known := tables.acts.get(item.code) or tables.drugs.get(item.code):
        unit = known.unit
    said = [_LABELS[item.kind], fold(name)]
    if item.amount is not None:
        said.append(_number(item.amount) + fold(unit))
    # 内服 is counted in days of supply; the day of the month is that of the prescription.
    if item.kind == "IY" and item.section == "21":
        return " ".join([*said, f"{item.times}日分"] if item.times else said)
    if item.times:
        said.append(f"{item.times}回")
    said += [f"{day}日" if count == 1 else f"{day}日({count}回)" for day, count in sorted(item.days.items())]
    return " ".join(said)


def _comment_text(code: str, text: str, tables: Tables | None) -> str:
    name = tables.comments.get(code, "") if tables else ""
    if not name and code != FREE_TEXT:
        name = f"コメント {code}"
    return fold(" ".join(part for part in (name, text) if part))


def _number(amount: Decimal) -> str:
    return f"{amount.normalize():f}"
