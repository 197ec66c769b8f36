"""Expands sentence frames: alternatives in square brackets and slots in braces.

`[a|b|]` is one of its alternatives (may be empty, may be nested). `{60-180}` is a whole number of that range,
`{35.8-39.2}` a number with as many decimals as the lower bound; other slots are the keys of `SLOTS`.
"""

import random
import re
from collections.abc import Callable
from datetime import date, timedelta

from training.corpus.core import Context

_CHOICE = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")
_SLOT = re.compile(r"\{([^{}]+)\}")
_RANGE = re.compile(r"^(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)$")

_FAMILY = (
    "佐藤 鈴木 高橋 田中 伊藤 渡辺 山本 中村 小林 加藤 吉田 山田 佐々木 山口 松本 井上 木村 林 斎藤 清水 山崎 森 池田 橋本 阿部 石川 前田 "
    "藤田 小川 後藤 岡田 長谷川 村上 近藤 石井 坂本 遠藤 青木 藤井 西村 福田 太田 三浦 岡本 松田 中川 中野 原田 小野 竹内 金子 和田 中山 "
    "石田 上田 森田 柴田 酒井 工藤 横山 宮崎 内田 高木 安藤 島田 谷口 大野 丸山 今井 武田 河野 藤原 村田 上野 杉山 増田 平野 菅原 久保"
).split()
_TOWN = "中央 北 南 東 西 みどり さくら 若葉 青葉 緑 本町 旭 朝日 大和 富士見 泉 光 希望 平和 長寿 ひまわり 桜台 港 川口 松原 春日".split()
_DEPARTMENTS = (
    "内科 循環器内科 消化器内科 呼吸器内科 腎臓内科 糖尿病内科 神経内科 血液内科 外科 整形外科 脳神経外科 皮膚科 泌尿器科 眼科 "
    "耳鼻科 耳鼻咽喉科 産婦人科 小児科 精神科 心療内科 放射線科 麻酔科 救急科 形成外科 歯科口腔外科 リハビリ科 緩和ケア科 総合診療科 "
    "膠原病内科 心臓血管外科 呼吸器外科 乳腺外科 腫瘍内科"
).split()
_JOBS = (
    "会社員 事務職 教員 看護師 介護士 農業 漁業 調理師 運転手 トラック運転手 大工 自営業 公務員 主婦 専業主婦 パート 学生 大学生 美容師 "
    "建設業 警備員 保育士 無職 元会社員 元教師 元公務員 清掃業 販売員 工場勤務 システムエンジニア 営業職 造園業 溶接工"
).split()
_RELATIVES = "妻 夫 長男 長女 次男 次女 三女 母 父 娘 息子 長男の妻 嫁 姉 妹 兄 弟 孫 姪 甥 両親 家族 キーパーソンの長女 同居の娘".split()
_FOODS = "粥 五分粥 全粥 軟飯 米飯 常食 軟菜食 ミキサー食 嚥下食3 ゼリー食 減塩食 流動食 きざみ食 とろみ食 糖尿病食 高血圧食 低残渣食 腎臓食".split()


def written_date(rng: random.Random, day: date, form: str) -> str:
    """`day` in one of the written forms: ymd/, ymd-, ymd., jp, md/, md, era, era. or short."""
    year = day.year - 2018 if day >= date(2019, 5, 1) else day.year - 1988
    era, letter = ("令和", "R") if day >= date(2019, 5, 1) else ("平成", "H")
    return {
        "ymd/": f"{day.year}/{day.month}/{day.day}",
        "ymd0": f"{day:%Y/%m/%d}",
        "ymd-": f"{day:%Y-%m-%d}",
        "ymd.": f"{day.year}.{day.month}.{day.day}",
        "jp": f"{day.year}年{day.month}月{day.day}日",
        "md/": f"{day.month}/{day.day}",
        "md": f"{day.month}月{day.day}日",
        "era": f"{era}{year}年{day.month}月{day.day}日",
        "era.": f"{letter}{year}.{day.month}.{day.day}",
        "short": f"{day:%y/%m/%d}",
    }[form]


FULL_FORMS = ("ymd/", "ymd0", "ymd-", "ymd.", "jp", "era", "era.", "short")
ALL_FORMS = (*FULL_FORMS, "md/", "md/", "md", "md")


def _near(rng: random.Random, ctx: Context, low: int, high: int) -> str:
    form = ctx.habit(rng, "filler_date", *ALL_FORMS)
    return written_date(rng, ctx.day + timedelta(days=rng.randint(low, high)), form)


def _clock(rng: random.Random, ctx: Context) -> str:
    hour, minute = rng.randrange(24), rng.choice((0, 0, 15, 30, 45, rng.randrange(60)))
    form = ctx.habit(rng, "clock", "{}:{:02}", "{}:{:02}", "{:02}:{:02}", "{}時{:02}分", "{:02}{:02}")
    return f"{hour}時" if form.startswith("{}時") and minute == 0 else form.format(hour, minute)


def _pressure(rng: random.Random, ctx: Context) -> str:
    return f"{rng.randint(84, 188)}/{rng.randint(42, 108)}"


def _doctor(rng: random.Random, ctx: Context) -> str:
    return rng.choice(_FAMILY) + rng.choice(("医師", "先生", "Dr", "Dr.", "先生", "部長", "医長"))


def _clinic(rng: random.Random, ctx: Context) -> str:
    if rng.random() < 0.4:
        return rng.choice(_FAMILY) + rng.choice(("医院", "クリニック", "内科", "内科クリニック", "整形外科", "眼科", "病院", "皮膚科"))
    return rng.choice(_TOWN) + rng.choice(("病院", "総合病院", "市民病院", "クリニック", "医療センター", "診療所", "記念病院", "中央病院"))


def _facility(rng: random.Random, ctx: Context) -> str:
    kinds = ("特養", "老健", "グループホーム", "訪問看護ステーション", "ケアハウス", "デイサービス", "有料老人ホーム", "小規模多機能")
    return rng.choice(kinds) + rng.choice(("", "「" + rng.choice(_TOWN) + "」", rng.choice(_TOWN) + "の里"))


def _pick(items: list[str] | tuple[str, ...]) -> Callable[[random.Random, Context], str]:
    return lambda rng, ctx: rng.choice(items)


def _weekday(rng: random.Random, ctx: Context) -> str:
    return rng.choice("月火水木金")


SLOTS: dict[str, Callable[[random.Random, Context], str]] = {
    "past": lambda rng, ctx: _near(rng, ctx, -40, -1),
    "today": lambda rng, ctx: _near(rng, ctx, 0, 0),
    "next": lambda rng, ctx: _near(rng, ctx, 1, 90),
    "month": lambda rng, ctx: f"{(ctx.day + timedelta(days=rng.randint(20, 300))).month}月",
    "year": lambda rng, ctx: str(ctx.day.year - rng.randint(0, 30)),
    "time": _clock,
    "bp": _pressure,
    "doctor": _doctor,
    "family": _pick(_FAMILY),
    "clinic": _clinic,
    "facility": _facility,
    "dept": _pick(_DEPARTMENTS),
    "job": _pick(_JOBS),
    "relative": _pick(_RELATIVES),
    "diet": _pick(_FOODS),
    "weekday": _weekday,
    "weeks": _pick(("1週間", "2週間", "4週間", "1か月", "1ヶ月", "2ヶ月", "3か月", "半年", "10日", "6週", "3M", "1年")),
    "side": _pick(("右", "左", "両", "両側", "rt ", "lt ")),
    "ward": lambda rng, ctx: f"{rng.randint(2, 9)}{rng.choice(('階東', '階西', 'A', 'B', '東', '西', '階', 'N'))}病棟",
    "room": lambda rng, ctx: f"{rng.randint(2, 9)}{rng.randint(1, 32):02}号室",
    "phone": lambda rng, ctx: f"0{rng.randint(3, 99)}-{rng.randint(10, 9999)}-{rng.randint(0, 9999):04}",
    "id": lambda rng, ctx: f"{rng.randrange(10**10):010}"[: rng.choice((6, 7, 8, 10))],
    "sex": _pick(("男性", "女性", "M", "F", "男", "女")),
    "pm": _pick(("(-)", "(-)", "(-)", "(+)", "(±)", "（－）", "（＋）", "−", "＋", "なし", "なし", "認めず", "あり")),
    "none": _pick(("なし", "なし", "なし", "無", "特になし", "(-)", "特記なし", "ない", "－")),
    "no": _pick(("なし", "なし", "無し", "認めず", "認めない", "(-)", "(－)", "（-）", "みられず", "ない")),
}


def expand(rng: random.Random, frame: str, ctx: Context) -> str:
    """The frame with every alternative chosen and every slot filled. Raises KeyError for an unknown slot."""
    while found := _CHOICE.search(frame):
        frame = frame[: found.start()] + rng.choice(found[1].split("|")) + frame[found.end() :]

    def fill(slot: re.Match[str]) -> str:
        bounds = _RANGE.match(slot[1])
        if not bounds:
            return SLOTS[slot[1]](rng, ctx)
        decimals = len(bounds[1].partition(".")[2])
        return f"{rng.uniform(float(bounds[1]), float(bounds[2])):.{decimals}f}"

    return _SLOT.sub(fill, frame)
