"""Written usages -> keys: what says the same has one key, what is not wholly understood has none."""

import csv
import itertools
import json
import os
import re
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.normalize import usage_key, usage_route

with (files("app.terminology") / "starter" / "usages.tsv").open(encoding="utf-8") as table:
    ROWS = list(csv.DictReader(table, delimiter="\t"))
CODES = {row["key"]: row["code"] for row in ROWS}


def code(text: str) -> str | None:
    """The code that the starter table has for a written usage."""
    key = usage_key(text)
    return CODES.get(key) if key else None


# --- the table --------------------------------------------------------------------------------------------------------


def test_every_row_has_a_key_of_its_own() -> None:
    assert len(ROWS) >= 62
    assert [row["key"] for row in ROWS] == [usage_key(row["display"]) for row in ROWS]
    assert all(row["key"] for row in ROWS)
    assert len(CODES) == len(ROWS) == len({row["code"] for row in ROWS})
    assert all(re.fullmatch("[0-9A-Z]{16}", row["code"]) for row in ROWS)


@pytest.mark.parametrize("row", [row for row in ROWS if row["code"].startswith("101")], ids=lambda row: row["code"])
def test_keys_agree_with_the_digits_of_the_codes(row: dict[str, str]) -> None:
    """JAMI's code says the same in digits: position 4 intakes a day, 5-8 bedtime, evening, noon and morning, 9 waking."""
    relations = {"1": "食前", "2": "食直前", "3": "食直後", "4": "食後", "5": "食後2時間"}
    route, times, slots = row["key"].split("/")
    digits = dict(zip(("夕", "昼", "朝"), row["code"][5:8], strict=True))
    named = [slot for slot in slots.split("+") if slot[0] in "朝昼夕"]
    assert named == [meal + relations[digits[meal]] for meal in "朝昼夕" if digits[meal] != "0"]
    assert ("就寝前" in slots) == (row["code"][4] == "1")
    assert ("起床時" in slots) == (row["code"][8] == "9")
    assert (route, times) == ("内服", f"1日{row['code'][3]}回")


@pytest.mark.official
def test_the_table_has_the_codes_and_names_of_jp_core() -> None:
    root = Path(os.environ.get("HYOJUN_STANDARDS") or Path(__file__).parents[2].parent / "shared" / "standards")
    found = next(root.glob("**/CodeSystem-jp-medication-usage-jami-cs.json"), None)
    if found is None:
        pytest.skip("the official packages are not here")
    concepts = json.loads(found.read_text(encoding="utf-8"))["concept"]
    ours = {row["code"]: row["display"] for row in ROWS}
    assert {c["code"]: c["display"] for c in concepts}.items() <= ours.items()


# --- spellings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("expected", "spellings"), [
    ("1013044400000000", [
        "分3 毎食後", "分３毎食後", "分3（毎食後）", "分3：毎食後", "1日3回毎食後", "1日3回 毎食後 服用", "１日３回朝昼夕食後　服用",
        "内服 １日３回 朝昼夕食後", "3x毎食後", "3×毎食後", "３×Ｎ", "3xn", "3xndE", "3×n.d.E.", "毎食後", "各食後", "毎食後3回", "分3 食後", "1日3回食後",
        "tid pc", "t.i.d. p.c.",
        "朝・昼・夕食後", "朝昼晩食後", "朝、昼、夜食後", "朝食後・昼食後・夕食後", "朝昼夕の食後", "3回に分けて毎食後", "1日3回に分けて毎食後", "x3 毎食後",
        "一日三回毎食後", "分3 毎食後 14日分", "1回1錠 1日3回 毎食後",
    ]),
    ("1011000400000000", ["分1 朝食後", "分1朝食後", "１×朝食後", "1日1回 朝食後", "朝食後", "毎朝食後", "1日1回（朝食後）", "朝食後に", "朝食後のみ",
                          "毎日 朝食後"]),
    ("1011040000000000", ["分1 夕食後", "夕食後", "1日1回夕食後 服用", "晩食後"]),
    ("1012040400000000", ["分2 朝夕食後", "分2（朝夕食後）", "2×朝夕食後", "朝・夕食後", "朝食後と夕食後", "分2 朝夕 食後", "1日2回(朝・夕食後)",
                          "bid 朝夕食後"]),
    ("1011100000000000", ["眠前", "vds", "v.d.S.", "1×vds", "1×眠前", "1xHS", "分1 就寝前", "分1 寝る前", "1日1回就寝前", "寝る前に1回", "夜眠前"]),
    ("1011000090000000", ["起床時", "分1 起床時", "1日1回起床時", "朝起床時"]),
    ("1014144400000000", ["分4 毎食後・眠前", "4xN+vds", "毎食後と就寝前", "1日4回 朝昼夕食後、寝る前", "食後 1日4回 眠前"]),
    ("1012100400000000", ["分2 朝食後・就寝前", "朝食後と眠前", "2×朝食後 vds"]),
    ("1013011100000000", ["分3 毎食前", "3×V", "3xvdE", "1日3回食前", "tid ac"]),
    ("1013022200000000", ["毎食直前", "分3 食直前", "1日3回 毎食直前"]),
    ("1023000000000000", ["8時間毎 内服", "q8h po", "1日3回 8時間ごと 服用"]),
    ("1041480000000000", ["分1 空腹時", "1日1回空腹時"]),
    ("1050610000000000", ["不眠時 内服", "不眠時頓用 服用", "眠れない時 頓服 内服"]),
    ("1050710000000000", ["発熱時 内服", "発熱時　服用", "内服 頓用 発熱の時"]),
    ("2R50410000000000", ["便秘時 肛門挿入", "便秘時 挿肛"]),
    ("2H73000000000000", ["点眼 1日3回", "3回/日 点眼", "外用・点眼・１日３回"]),
    ("2B7N000000000000", ["1日数回 塗布"]),
])  # fmt: skip
def test_spellings_of_one_usage(expected: str, spellings: list[str]) -> None:
    assert {spelling: code(spelling) for spelling in spellings} == dict.fromkeys(spellings, expected)


@pytest.mark.parametrize("same", [
    ["1日1回朝", "1×朝", "分1 朝", "朝", "1xM", "朝1回"],
    ["2xMA", "2xM.A", "分2 朝夕", "朝夕2回", "1日2回(朝・夕)"],
    ["1日3回", "3x", "tid", "分3", "3回/日"],
    ["8時間毎", "q8h", "1日3回8時間おき"],
    ["発熱・疼痛時", "疼痛・発熱時頓用", "頓服 熱発時 痛い時"],
    ["嘔気時", "悪心時", "吐き気時"],
    ["必要時", "prn", "p.r.n."],
    ["毎食間", "分3 食間", "3×z.d.E."],
])  # fmt: skip
def test_same_usages_without_a_code(same: list[str]) -> None:
    keys = {usage_key(text) for text in same}
    assert len(keys) == 1
    assert None not in keys
    assert keys.isdisjoint(CODES)


def test_different_usages_have_different_keys() -> None:
    texts = [
        *("毎食後", "毎食前", "毎食間", "毎食直前", "毎食直後", "食後2時間 1日3回", "分3", "分2", "分2 食後", "食後", "朝", "夜", "夕", "眠前", "起床時"),
        *("朝食後", "朝夕", "朝夕食後", "朝食前・夕食後", "朝食後、眠前", "8時間毎", "12時間毎", "q5h", "空腹時", "頓用", "必要時", "適宜", "疼痛時"),
        *("発熱時", "発熱時 内服", "発熱時 肛門挿入", "疼痛時 1日2回", "朝食後 貼付", "1日1回 塗布", "1日数回 塗布", "8時・20時", "毎食後 うがい"),
    ]
    keys = [usage_key(text) for text in texts]
    assert None not in keys
    assert [(a, b) for (a, x), (b, y) in itertools.combinations(zip(texts, keys, strict=True), 2) if x == y] == []


@pytest.mark.parametrize("text", [
    "隔日", "隔日 朝食後", "1日おき 朝食後", "週1回", "週1回 起床時", "週3回 透析後", "月水金 朝食後", "月曜日 起床時", "2日に1回 朝食後", "qod", "月1回",
    "漸減", "朝食後 漸減", "疼痛時 1日3回まで", "1日5〜6回", "1日2〜3回 毎食後", "2-3回/日", "食前30分", "食後30分 1日3回", "38.5℃以上の時", "38度以上の発熱時",
    "分2 毎食後", "分3 毎食後・眠前", "1日3回 12時間毎", "毎食", "分3 分2", "1日1回 朝食後 右眼", "両膝に塗布 1日3回", "朝2錠 夕1錠", "毎食後 不均等",
    "食後または食前", "点眼 内服 1日3回", "1日1回 夕食後以外", "内服", "", "　", "do", "指示通り", "起床後", "朝食抜き時", "朝食後から",
    "1日1回 朝食後 7日間休薬", "朝食前 食後", "毎食後 食前", "24回", "分10", "朝食後 7日分 14日分", "食間または空腹時", "朝食中", "レスキュー",
    "透析後 朝食後", "0時間毎",
])  # fmt: skip
def test_what_is_not_wholly_understood_has_no_key(text: str) -> None:
    assert usage_key(text) is None


def test_a_route_that_is_said_is_not_the_mouth() -> None:
    assert code("1日1回 就寝前") == "1011100000000000"
    assert code("1日1回 就寝前 貼付") is None
    assert code("毎食直前 皮下注") is None
    assert code("毎食後 点眼") is None


@pytest.mark.parametrize(("drug", "route"), [
    ("カロナール錠200mg", "内服"), ("アムロジピンOD錠5mg", "内服"), ("ツムラ葛根湯エキス顆粒", "内服"), ("メトクロプラミドｶﾌﾟｾﾙ", "内服"),
    ("アリセプト内服ゼリー5mg", "内服"), ("ヒアレイン点眼液0.1%", "点眼"), ("フランドルテープ40mg", "貼付"), ("ボルタレンサポ25mg", "肛門挿入"),
    ("アンヒバ坐剤100mg", "肛門挿入"), ("リンデロンVG軟膏", "外用"), ("ニトロペン舌下錠0.3mg", "外用"), ("スピリーバ吸入用カプセル", "外用"),
    ("ノボラピッド注フレックスペン", "注射"), ("ランタスXR注ソロスター", "注射"), ("ロキソニン", None), ("", None),
])  # fmt: skip
def test_the_form_in_a_name_is_a_word_of_the_usage(drug: str, route: str | None) -> None:
    assert usage_route(drug) == route
    assert route is None or usage_key(f"朝 {route}")


def test_the_form_keeps_other_drugs_from_oral_codes() -> None:
    def with_form(drug: str, usage: str) -> str | None:
        return code(f"{usage} {usage_route(drug) or ''}")

    assert with_form("カロナール錠200mg", "発熱時") == "1050710000000000"
    assert with_form("アンヒバ坐剤100mg", "発熱時") is None
    assert with_form("フランドルテープ40mg", "分1 就寝前") is None
    assert with_form("ノボラピッド注フレックスペン", "毎食直前") is None
    assert with_form("ヒアレイン点眼液0.1%", "1日3回") == "2H73000000000000"
    assert with_form("リンデロンVG軟膏", "1日3回 塗布") == "2B73000000000000"


# --- any usage --------------------------------------------------------------------------------------------------------

_WIDE = str.maketrans({chr(c): chr(c + 0xFEE0) for c in range(0x21, 0x7F)} | {" ": "　"})
_TIMES = {1: ["1日1回", "分1", "qd"], 2: ["1日2回", "分2", "bid"], 3: ["1日3回", "分3", "tid", "3回/日"]}
_MEALS = {1: ["朝", "昼", "夕"], 2: ["朝夕", "朝・昼", "昼夕"], 3: ["朝昼夕", "毎"]}


@st.composite
def usages(draw: st.DrawFn) -> tuple[str, str]:
    """A usage in the order of the master, and the same parts in any order, spelling, width and spacing."""
    count = draw(st.integers(1, 3))
    meals = draw(st.sampled_from(_MEALS[count]))
    relation = draw(st.sampled_from(["前", "直前", "後", "直後"]))
    bedtime = draw(st.booleans()) if count < 3 else False
    plain = f"内服・経口・1日{count + bedtime}回{meals.replace('毎', '朝昼夕').replace('・', '')}食{relation}{'と就寝前' * bedtime}"
    parts = [draw(st.sampled_from(_TIMES[count + bedtime])), f"{meals}食{relation}"]
    parts += [draw(st.sampled_from(["眠前", "vds", "就寝前", "寝る前"]))] * bedtime
    parts += draw(st.sampled_from([[], ["内服"], ["服用"], ["7日分"]]))
    gap = draw(st.sampled_from([" ", "　", "、", " / ", "・"]))
    written = gap.join(draw(st.permutations(parts)))
    return plain, written.translate(_WIDE) if draw(st.booleans()) else written


@settings(max_examples=300)
@given(usages())
def test_order_width_and_spaces_change_nothing(case: tuple[str, str]) -> None:
    plain, written = case
    assert usage_key(written) == usage_key(plain) is not None


_PIECES = [*"朝昼夕食前後間毎分時回日1238x×NVv.・ 、", "就寝前", "頓用", "発熱", "点眼", "隔日"]


@given(st.text(max_size=20) | st.lists(st.sampled_from(_PIECES), max_size=12).map("".join))
def test_any_text_has_a_key_or_none_and_a_leftover_word_has_none(text: str) -> None:
    key = usage_key(text)
    assert key is None or (key and "\t" not in key and "\n" not in key)
    for word in ("隔日", "週2回", "漸減", "膝"):
        assert usage_key(f"{text} {word}") is None
