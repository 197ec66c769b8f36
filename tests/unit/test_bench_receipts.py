"""The measures of bench/receipts.py against cases that can be counted by hand."""

from datetime import date
from pathlib import Path

import pytest

from app.receipts.chart import Entry
from app.receipts.uke import Claim
from bench import receipts
from bench import receipts_score as score
from bench.receipts_score import Judged
from schemas.issue import Severity
from schemas.receipt import Advice, Advised, Block, Case, Cited, Finding, Reason, Rule
from schemas.statement import EvidenceSpan
from training.receipts.draw import Planted, Synthetic

NOTE = Entry("n1", date(2026, 5, 7), "心エコーは次回に延期した", ())
FINDING = Finding(rule=Rule.LIMIT, line=5, severity=Severity.ERROR, text="t", reference="r", row="limits:1")
CASE = Case(head="男", blocks=(Block(line=5, text="診療行為 心臓超音波検査 1回", findings=(FINDING,)),))


def advice(**changes: object) -> Advice:
    span = EvidenceSpan(start=0, end=4, quote="心エコー")
    plain: dict[str, object] = {
        "line": 5, "action": Advised.DELETE_LINE, "reason": Reason.ACT_NOT_DONE, "reference": "chart",
        "evidence": Cited(note_id="n1", span=span), "comment": "心臓超音波検査は行われていません。",
    }  # fmt: skip
    return Advice.model_validate(plain | changes)


def judged(truth: set[int], said: set[int]) -> Judged:
    return Judged(frozenset(range(10)), frozenset(truth), frozenset(said))


def test_lines_and_claims_are_counted_apart() -> None:
    found = [judged({1, 2}, {2, 3}), judged(set(), {4}), judged({5}, set()), judged(set(), set())]
    lines = score.measures([score.line_counts(one) for one in found])
    assert (lines["precision"], lines["recall"]) == pytest.approx((1 / 3, 1 / 3))
    assert lines["accuracy"] == pytest.approx(36 / 40)
    claims = score.measures([score.claim_counts(one) for one in found])
    assert (claims["precision"], claims["recall"], claims["accuracy"]) == (0.5, 0.5, 0.5)


def test_a_difference_is_paired() -> None:
    first = [judged({1}, set()) for _ in range(20)]
    second = [judged({1}, {1}) for _ in range(20)]
    assert score.difference(first, second) == {"difference": 1.0, "low": 1.0, "high": 1.0}
    assert score.difference(second, second)["difference"] == 0.0


def test_what_is_cited_is_looked_up_in_the_notes_and_the_tables() -> None:
    assert score.unsupported(advice(), CASE, [NOTE]) == []
    assert score.unsupported(advice(line=6), CASE, [NOTE]) == ["line"]
    assert score.unsupported(advice(reference="limits:2"), CASE, [NOTE]) == ["rule"]
    assert score.unsupported(advice(evidence=None), CASE, [NOTE]) == ["nothing cited"]
    elsewhere = Cited(note_id="n1", span=EvidenceSpan(start=1, end=5, quote="心エコー"))
    assert score.unsupported(advice(evidence=elsewhere), CASE, [NOTE]) == ["passage"]
    assert score.unsupported(advice(evidence=elsewhere.model_copy(update={"note_id": "n2"})), CASE, [NOTE]) == ["passage"]


def test_a_comment_holds_what_it_must() -> None:
    fault = Planted(5, Advised.DELETE_LINE, Reason.ACT_NOT_DONE, "chart", ("n1", 2, 12), "心臓超音波検査は行われていません。")
    assert score.quality(advice(), fault, CASE.blocks[0].text).all
    other = score.quality(advice(action=Advised.CONFIRM, comment="確かめてください。"), fault, CASE.blocks[0].text)
    assert (other.names_line, other.action, other.reason, other.evidence, other.all) == (False, False, True, True, False)
    far = fault.__class__(5, fault.action, fault.reason, "chart", ("n1", 8, 12), fault.comment)
    assert score.quality(advice(), far, CASE.blocks[0].text).evidence is False


def test_likeness_of_texts() -> None:
    """ROUGE-L: the longest common subsequence of あいうえ and あうえお is あうえ. chrF of one character more or less."""
    assert score.rouge_l("あいうえ", "あうえお") == pytest.approx(0.75)
    assert score.rouge_l("", "あ") == 0.0
    assert score.chrf("削除してください。", "削除してください。") == pytest.approx(1.0)
    assert score.chrf("あ", "い") == 0.0
    # 1-grams: precision 1, recall 1/2; a 2-gram only one side has is left out.
    assert score.chrf("あ", "あい") == pytest.approx(5 * 0.5 / (4 * 1 + 0.5))


def test_a_second_model_grades_under_a_grammar(plain_path: Path) -> None:
    """Weights that learnt nothing: whatever they think, it is three grades of 1 to 5, marked as a model's opinion."""
    fault = Planted(5, Advised.DELETE_LINE, Reason.ACT_NOT_DONE, "chart", ("n1", 0, 12), "心臓超音波検査は行われていません。")
    claim = Claim(())
    found = receipts.judge(plain_path, [Synthetic(claim, (NOTE,), (fault,), ("act_not_done:1",))], [CASE], [[advice()]])
    assert found["graded"] == 1 and found["model"] == plain_path.name
    assert all(1 <= grade <= 5 for grade in found["opinion of a model"].values())
