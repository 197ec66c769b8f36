"""Free text of synthetic notes: prose, SOAP, letters, the notes of nurses, emergency rooms and health checks."""

import random

from training.corpus.condition_lists import heading, problem
from training.corpus.condition_prose import ABSENT, MIXED, PRESENT, SUSPECTED, frame, inline, plain
from training.corpus.condition_words import fill, join
from training.corpus.core import Context, Line
from training.corpus.names import Names


def _sentence(rng: random.Random, names: Names, ctx: Context) -> Line:
    return Line(*inline(rng, names, ctx))


def prose(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Free text: one to four sentences, on one line or several."""
    sentences = [_sentence(rng, names, ctx) for _ in range(rng.choice([1, 1, 2, 3, 4]))]
    lines = [] if rng.random() < 0.6 else [Line(heading(rng, ctx, "現病歴", "経過", "入院経過", "HPI", "PI",
        "現症経過", "入院後経過", "コメント", "サマリー", "病状", "臨床経過", "申し送り", "所見・考察"))]
    return lines + (_joined(rng, sentences) if rng.random() < 0.5 else sentences)


def _joined(rng: random.Random, sentences: list[Line]) -> list[Line]:
    """The sentences as one paragraph."""
    joint = rng.choice(["", "", " ", "　"])
    parts = [(line.text if line.text.endswith(("。", "」")) else line.text + "。", line.facts) for line in sentences]
    return [Line(*join(joint, parts))]


def soap(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """S O A P with diseases in any part."""
    form = ctx.habit(rng, "soap", "{}) ", "{}）", "{}: ", "{}：", "({}) ", "【{}】", "{} ", "＜{}＞", "[{}] ",
        "{}　", "{}/ ")
    lines = []
    for letter in rng.choice(["SOAP", "SOAP", "SOA", "OA", "AP", "A", "SA", "SAP"]):
        for number in range(rng.choice([1, 1, 1, 2])):
            if letter in "SOP":
                line = plain(rng, names, ctx) if rng.random() < 0.6 else _sentence(rng, names, ctx)
            elif rng.random() < 0.4:
                line = Line(*problem(rng, names, ctx))
            else:
                line = Line(*fill(rng, names, ctx, rng.choice(rng.choice([PRESENT, SUSPECTED, ABSENT, MIXED]))))
            line.text = (form.format(letter) if not number else rng.choice(["　", "", "   "])) + line.text
            lines.append(line)
    return lines


def letter(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """The body of a referral, reply or discharge letter."""
    opening = ["平素より大変お世話になっております。", "いつもお世話になっております。",
        "ご紹介ありがとうございます。", "拝啓 時下ますますご清栄のこととお慶び申し上げます。",
        "お世話になります。", ""]
    core = [
        "{P}の患者様です。",
        "{P:chronic}、{P:chronic}で当院通院中の{n:40-90}歳{pt}です。",
        "{P}にて{hosp}に通院されておりましたが、{sx}が出現し{S:acute}が疑われましたので紹介させていただきます。",
        "このたび{P:acute}の診断で{d}に入院となりました。",
        "貴院にて{o>}に{P}と診断され、治療を受けておられます。",
        "精査の結果、{P}{stage}と診断いたしました。",
        "{test}にて{A}は否定的でした。",
        "{test}では{A}の所見は認めませんでした。",
        "{S}の可能性も考えられますので、御高診のほどお願い申し上げます。",
        "{S}を疑い{test}を施行いたしました。",
        "{P}につきましては{rx}を継続いただければ幸いです。",
        "既往に{o>}の{H}（{op}後）がございます。",
        "{H}に対し{o>}に{op}を受けておられます。",
        "{P:acute}は改善し、退院となりました。",
        "{H:acute}は治癒いたしましたので、{d}に退院となりました。",
        "なお、{P:chronic}、{P:chronic}を合併しております。",
        "明らかな{A}は認めませんでした。",
        "{sx}が続くため、{P}の精査加療目的にご紹介申し上げます。",
        "{P:cancer}{stage}に対し{op}を施行いたしました。",
        "術後、{A}などの合併症なく経過いたしました。",
        "今後は貴院にて{P:chronic}のフォローをお願いいたします。",
        "ご家族では{r>}に{F}がございます。",
        "健診にて{S}の疑いを指摘され、当院を受診されました。",
        "{decoy}についても説明しております。",
    ]
    sentences = [Line(*fill(rng, names, ctx, rng.choice(core))) for _ in range(rng.randint(1, 4))]
    if rng.random() < 0.3:
        sentences.append(plain(rng, names, ctx))
    body = _joined(rng, sentences) if rng.random() < 0.5 else sentences
    first = rng.choice(opening)
    last = rng.choice(["", "何卒よろしくお願い申し上げます。", "ご高診の程お願いいたします。",
        "今後ともよろしくお願いいたします。", "敬具"])
    return [*([Line(first)] if first else []), *body, *([Line(last)] if last else [])]


def nursing(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """A nurse's record: focus, data, observations, few diagnoses."""
    frames = [
        "{P}で入院中。{sx}の訴えなし。",
        "{P:acute}[にて|で]入院{n:1-20}日目。{sx}軽減している。",
        "本日{op}後{n:1-7}日目。{A}の所見なし。",
        "既往：{P:chronic}、{P:chronic}",
        "既往に{P:chronic}あり、{sx}に注意して観察する。",
        "「{P:chronic}で{n:3-20}年薬を飲んでいます」",
        "「{A:denied}と言われたことはないです」",
        "「{r>}も{F}でした」",
        "F：{sx}　D：本日より増強　A：医師へ報告",
        "医師より{P}と説明あり。",
        "医師より{S}の疑いと説明され、不安表情あり。",
        "{S}疑いのため個室隔離とする。",
        "{A:denied}なし、転倒歴なし。",
        "入院時情報：{P:chronic}（{treated}）、{H}（{<o}手術）",
        "#1 活動耐性低下",
        "#1 転倒リスク状態",
        "訪問時、{P:chronic}のため介助にて移動。",
        "ケアマネへ連絡。{decoy}の利用を検討。",
        "主病名：{P}　ADL：一部介助",
    ]
    lines = []
    for _ in range(rng.randint(1, 5)):
        lines.append(plain(rng, names, ctx) if rng.random() < 0.4 else Line(*fill(rng, names, ctx,
            rng.choice(frames))))
    return lines


def emergency(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """The terse record of an emergency room."""
    frames = [
        "{n:20-95}歳{pt}。{sx}、{sx}で救急搬送。",
        "既往 {P:chronic}、{P:chronic}　内服あり",
        "救急隊情報：{sx}、既往に{P:chronic}、{o>} {H}",
        "初期診断：{S}疑い",
        "初期診断：{P:acute}",
        "ER diagnosis: {P:acute}",
        "救急外来診断　{P:injury}",
        "受傷機転：歩行中転倒。{P:injury}",
        "{test}：{A}なし、{img}なし",
        "FAST陰性。{test}で{A}なし。",
        "{A}(-) {A}(-) {S}?",
        "→ {S}を疑い{dept}コール",
        "→ {P:acute}として入院",
        "Dispo: {P:acute}で{dept}入院",
        "帰宅可。{A}は否定的。{sx}増悪時再診。",
        "DDx: {S}, {S}, {S}",
        "トリアージ：黄　{sx}",
        "r/o {S}: {test}",
        "{A} r/o済",
        "搬送時{sign}なし、{sign}あり。",
        "接触時JCS 10、{sx}あり。{S}疑いで搬入。",
        "診断：{P:injury}、{P:injury}",
        "CPA蘇生後、原因は{P:acute}と判断。",
    ]
    return [Line(*fill(rng, names, ctx, rng.choice(frames))) for _ in range(rng.randint(1, 5))]


def checkup(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Results of a health check: grades, advice, few diagnoses."""
    frames = [
        "{test}：{S}の疑い　要精密検査",
        "{test}：異常なし",
        "{test}：{P:chronic}",
        "{test}：{A}なし",
        "判定：C　{P:chronic}",
        "判定：D2（要精査）　{S}疑い",
        "判定：E（治療中）　{P:chronic}",
        "{P:chronic} 治療中（{hosp}）",
        "総合判定：B（軽度異常）",
        "総合判定：C　血圧：要経過観察",
        "血圧：A　脂質：C　血糖：B　肝機能：A",
        "現病歴：{P:chronic}（{treated}）",
        "現在治療中の病気：{P:chronic}、{P:chronic}",
        "現在治療中の病気：なし",
        "既往歴：{H}（{<o}）",
        "問診：{A:denied}なし、{A:denied}なし",
        "自覚症状：なし",
        "自覚症状：{sx}",
        "メタボリックシンドローム判定：非該当",
        "メタボリックシンドローム予備群",
        "胃がん検診：異常なし　大腸がん検診：陰性",
        "医師の意見：{P:chronic}につき受診を勧める。",
        "医師の意見：{S}の疑いあり、{dept}受診を。",
        "所見：{P:chronic}（{<o}〜指摘）",
        "眼底：{A:chronic}なし",
        "肝炎ウイルス検査：希望せず",
        "保健指導：動機付け支援",
        "家族歴：{r>} {F}",
        "便潜血：陰性、{A:cancer}を疑う所見なし",
    ]
    return [Line(*fill(rng, names, ctx, rng.choice(frames))) for _ in range(rng.randint(1, 6))]


def decoys(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Lines that state no disease at all."""
    return [plain(rng, names, ctx) for _ in range(rng.randint(1, 5))]


def plan_by_problem(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Each problem with its assessment and plan below it."""
    lines: list[Line] = []
    mark = ctx.habit(rng, "number", "#{} ", "#{}", "＃{} ", "# ", "＃", "{}. ", "{}) ", "【{}】", "■ ")
    for number in range(rng.randint(1, 4)):
        text, facts = problem(rng, names, ctx)
        lines.append(Line(mark.format(number + 1) + text, facts))
        for _ in range(rng.randint(1, 3)):
            body = rng.choice([*(["{sx}は{course}。", "{rx}継続。", "{test}再検。", "{dept}併診。",
                "{d} {test}施行。", "{img}は改善。", "{sign}なし。", "{rx}開始。"] * 4), *SUSPECTED[:20],
                *ABSENT[:30], *PRESENT[-40:]])
            text, facts = fill(rng, names, ctx, body)
            lines.append(Line(rng.choice(["　", "  ", " ", "- ", "・", "→ ", ""]) + text, facts))
    return lines


def any_frame(rng: random.Random, names: Names, ctx: Context) -> list[Line]:
    """Sentences under a bullet, an arrow or a time, as in flow sheets and short progress notes."""
    lines = []
    for _ in range(rng.randint(1, 4)):
        text, facts = fill(rng, names, ctx, frame(rng))
        clock = f"{rng.randint(6, 23)}:{rng.randint(0, 59):02d} "
        opening = rng.choice(["・", "- ", "→", "＞", clock, "", "　", "※", "＊", "> "])
        lines.append(Line(opening + text, facts))
    return lines
