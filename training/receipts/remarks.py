"""Reference comments: what a reviewer would write to the clinic about a fault. Names of the tables, no codes."""

# ruff: noqa: E501 (tables of words, one row a line)

import random
import re
from collections.abc import Mapping, Sequence

from app.receipts.tables import fold
from schemas.receipt import MAX_COMMENT, Reason, Rule
from training.receipts.plans import Plan, subject_of
from training.receipts.story import Problem, Service, Supply
from training.receipts.words import plain_act, plain_disease, plain_drug

_REMARKS: Mapping[Reason, Sequence[str]] = {
    Reason.DISEASE_MISSING_FOR_DRUG: (
        "{x}の適応となる傷病名がありません。診療録に{d}の記載があるため、傷病名の追加をお願いします。", "{x}に対応する傷病名の記載がありません。{d}の追加をご検討ください。",
        "診療録の{d}が傷病名欄にありません。{x}の適応として追加してください。", "{x}の投与に見合う傷病名が見当たりません。診療録に沿って{d}を追加してください。", "{d}の病名漏れと思われます。{x}の適応病名として追加をお願いします。",
    ),
    Reason.DISEASE_MISSING_FOR_ACT: (
        "{x}の対象となる傷病名がありません。診療録に{d}の記載があるため、傷病名の追加をお願いします。", "{x}に対応する傷病名の記載がありません。{d}の追加をご検討ください。",
        "診療録の{d}が傷病名欄にありません。{x}の算定に必要なため追加してください。", "{x}を必要とした傷病名が見当たりません。{d}を追加してください。", "{d}の病名漏れと思われます。{x}の対象病名として追加をお願いします。",
    ),
    Reason.SUSPICION_CONFIRMED: (
        "{x}の適応病名が疑いのままです。診療録では{d}と診断されているため、確定病名に変更してください。", "診療録で{d}の診断が確定しています。疑いを外し、{x}の適応を確定病名としてください。",
        "{d}は確定診断済みと読み取れます。{x}に対する傷病名を疑いから確定へ変更をお願いします。", "{x}は確定病名が必要です。{d}の疑いを確定に改めてください。",
    ),
    Reason.SUSPICION_RULED_OUT: (
        "{x}の疑いは診療録で否定されています。疑い病名の削除又は中止の転帰をお願いします。", "{x}の疑いが長期に残っています。否定されているため、病名を整理してください。",
        "診療録では{x}は否定されています。疑いのまま残さず削除してください。", "{x}の疑い病名は、否定の記載に沿って終了としてください。",
    ),
    Reason.CONTRAINDICATED: (
        "{x}は{d}に禁忌とされています。投与の可否を主治医にご確認ください。", "{d}のある患者に{x}が投与されています。禁忌に当たるため主治医に確認をお願いします。",
        "{x}と{d}は禁忌の組合せです。診療録に検討の記載がなく、医師への確認が必要です。", "{d}がある中での{x}の投与について、医師の判断をご確認ください。",
    ),
    Reason.CONTRAINDICATION_EXPLAINED: (
        "{x}は{d}に禁忌ですが、診療録に投与の判断があります。理由をコメントに記載してください。", "{d}を考慮した上での{x}の投与と読み取れます。その旨の注記を追加してください。",
        "診療録では{d}を踏まえて{x}が使われています。レセプトに必要性のコメントをお願いします。", "{x}の投与理由が摘要欄にありません。{d}との関係を検討した旨のコメントを追加してください。",
    ),
    Reason.ACTS_EXCLUDE_EACH_OTHER: (
        "{x}は{o}と併せて算定できません。{x}の削除をお願いします。", "{o}を算定しているため、{x}は算定できません。削除してください。",
        "{x}と{o}の併算定は認められていません。いずれかとして{x}を削除してください。", "{o}に含まれる等の理由により、{x}の算定は取り下げてください。",
    ),
    Reason.DRUG_TWICE: (
        "{x}と同じ成分の薬剤が同日に重ねて算定されています。重複分の削除をお願いします。", "{x}は重複投与と思われます。診療録の処方は一つのため、この行を削除してください。",
        "同一成分の処方が二つあります。{x}の重複をご確認の上、削除してください。", "{x}が二重に入力されています。診療録に合わせて一方を削除してください。",
    ),
    Reason.OVER_LIMIT: (
        "{x}が算定できる回数を超えています。回数の訂正をお願いします。", "{x}は上限を超えて算定されています。実施に合わせて回数を訂正してください。",
        "{x}の算定回数が限度を超えます。回数をご確認の上、訂正してください。", "期間内の{x}の回数が多くなっています。上限の回数に訂正してください。",
    ),
    Reason.AGE: (
        "{x}は患者の年齢では算定できません。削除をお願いします。", "{x}の年齢条件に合いません。この行を削除してください。", "患者の年齢は{x}の対象外です。算定の取り下げをお願いします。", "{x}は対象年齢ではないため、削除してください。",
    ),
    Reason.SEX: (
        "{x}は患者の性別と合いません。主治医にご確認ください。", "性別と{x}の組合せに疑義があります。入力誤りがないか医師に確認をお願いします。", "{x}は性別の条件に合わないため、診療内容をご確認ください。", "患者の性別では{x}は考えにくいため、医師への確認をお願いします。",
    ),
    Reason.NAME_UNCODED: (
        "{x}には傷病名コードがあります。未コード化の病名をコードのある病名に変更してください。", "{x}が未コード化傷病名で入力されています。該当するコードへの変更をお願いします。",
        "ワープロ病名の{x}は、マスターの傷病名に置き換えてください。", "{x}はマスターにある傷病名です。コードを用いた記載に訂正してください。",
    ),
    Reason.COUNT_WRONG: (
        "{x}の回数と算定日の合計が合いません。診療録に合わせて回数を訂正してください。", "{x}の回数の入力に誤りがあります。算定日の内訳と一致するよう訂正をお願いします。",
        "{x}は回数と日ごとの数が異なっています。正しい数に訂正してください。", "算定日情報と{x}の回数が一致しません。ご確認の上、訂正してください。",
    ),
    Reason.DAYS_DIFFER: (
        "{x}の投与日数が診療録では{t}日分です。日数の訂正をお願いします。", "診療録の{x}は{t}日分で、レセプトの日数と異なります。{t}日分に訂正してください。",
        "{x}の日数が診療録と一致しません。診療録に沿って{t}日分としてください。", "処方日数の誤りと思われます。{x}を{t}日分に訂正してください。",
    ),
    Reason.DRUG_STOPPED: (
        "診療録では{x}は処方されていません。この行の削除をお願いします。", "{x}は診療録上、今回の処方に含まれていません。削除してください。", "{x}の投与は診療録で確認できず、処方しない旨の記載があります。算定を取り下げてください。", "診療録の記載から{x}は当日処方されていません。削除をお願いします。",
    ),
    Reason.ACT_NOT_DONE: (
        "診療録では{x}は実施されていません。この行の削除をお願いします。", "{x}は当院で当日行われていないと読み取れます。削除してください。", "{x}の実施が診療録で確認できません。算定の取り下げをお願いします。", "診療録によれば{x}は行われていないため、削除してください。",
    ),
    Reason.DISEASE_DENIED: (
        "診療録では{x}は否定されています。傷病名の削除をお願いします。", "{x}は診療録で否定の記載があります。確定病名から削除してください。", "{x}の病名は診療録の判断と合いません。削除してください。", "除外診断された{x}が傷病名に残っています。削除をお願いします。",
    ),
    Reason.SUSPECTED_AS_CERTAIN: (
        "診療録では{x}は疑いです。疑いの修飾語を付けた病名に変更してください。", "{x}は確定していません。診療録に沿って疑い病名への変更をお願いします。", "{x}が確定病名になっていますが、診療録では疑いにとどまります。訂正してください。", "診断の確定前と読み取れます。{x}を疑いに改めてください。",
    ),
    Reason.SIDE_DIFFERS: (
        "{x}の左右が診療録と異なります。診療録では{s}のため、修飾語を訂正してください。", "診療録では{s}の{x}です。左右の修飾語の訂正をお願いします。", "{x}の部位の左右が一致しません。{s}に訂正してください。", "左右の入力誤りと思われます。{x}を診療録どおり{s}としてください。",
    ),
    Reason.PRODUCT_DIFFERS: (
        "{x}の規格が診療録と異なります。診療録の{s}の製品に変更してください。", "診療録の処方は{s}です。{x}の規格の訂正をお願いします。", "{x}ではなく、診療録では{s}が処方されています。コードを訂正してください。", "規格の誤りと思われます。{x}を診療録の{s}に合わせてください。",
    ),
}  # fmt: skip
_JUSTIFIED: Mapping[Rule, Sequence[str]] = {
    Rule.SUSPECTED_OPEN: (
        "{x}の疑いは診療録で精査中のため、このままでよいと考えます。", "{x}は診療録に精査継続の記載があり、疑いのままで差し支えありません。", "{x}は確定前で精査が予定されているため、訂正は不要です。", "診療録で{x}の精査が続いており、変更の必要はありません。",
    ),
    Rule.CONTRAINDICATION: (
        "{x}は禁忌に当たりますが、診療録の判断と注記があるため訂正は不要です。", "{x}の投与理由は注記されており、診療録とも合うためこのままで差し支えありません。", "{d}を考慮した{x}の投与が注記されています。変更は不要です。", "{x}については必要性の注記があり、このままでよいと考えます。",
    ),
}  # fmt: skip
_NOTED = (
    "{x}には算定理由の注記があるため、このままでよいと考えます。",
    "{x}の理由がコメントに記載されており、訂正は不要です。",
    "{x}は注記により事情が説明されています。変更の必要はありません。",
    "コメントの説明から、{x}の算定は差し支えないと考えます。",
)
_SIDES = {"右": "右側", "左": "左側", "両": "両側"}


def name_of(part: Problem | Supply | Service) -> str:
    if isinstance(part, Problem):
        return plain_disease(part.row)
    return plain_drug(part.product or part.named) if isinstance(part, Supply) else plain_act(part.row)


def remark(rng: random.Random, plan: Plan, part: Problem | Supply | Service) -> str:
    """For the line of `part`; at most `MAX_COMMENT` characters."""
    other = next((one for one in plan.targets if one is not part and subject_of(one) != subject_of(part)), part)
    slots = {"x": name_of(part), "o": name_of(other), "d": _about(plan), "t": "", "s": ""}
    if isinstance(part, Supply):
        slots["t"] = str(part.days)
        slots["s"] = fold(part.strength)
    elif isinstance(part, Problem):
        slots["s"] = _SIDES.get(part.side, "")
    pool = _REMARKS.get(plan.reason) or (_JUSTIFIED.get(plan.rule, _NOTED) if plan.rule else _NOTED)
    made = [_filled(frame, slots) for frame in pool]
    made = [text for text in made if len(text) <= MAX_COMMENT]
    if not made:
        slots["x"] = slots["x"][:20]
        made = [_filled(frame, slots)[:MAX_COMMENT] for frame in pool]
    return rng.choice(made)


def _about(plan: Plan) -> str:
    if plan.about is None:
        return ""
    suspected = plan.rule is Rule.INDICATION and isinstance(plan.proof, Problem) and plan.proof.said == "suspected"
    return plain_disease(plan.about) + "の疑い" * suspected


def _filled(frame: str, slots: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w)\}", lambda match: slots[match[1]], frame)
