"""Receipt checking on planted faults: `python -m bench.receipts [--claims 300] [--rules 50000] [--judge CHAT.gguf]`.

The claims are synthetic (`training.receipts`): of the twenty kinds of fault, in combinations of kind and subject that the
training never drew. Their charts go through use case 1 as notes do (`--chart gold` takes the generator's own facts instead).
Four ways to say which lines need correction or confirmation:

- rules: the checks from tables alone;
- differences: those, and every line whose strength, days or side differ from a passage of the chart, whatever it says;
- model: the model alone, which is shown the claim and the chart and no finding;
- both: the product, the model judging with the findings before it.

Precision, recall, F1 and accuracy of lines and of claims (95 % intervals of F1 by bootstrap over claims), the share found by
kind of fault, and for each fault that was found what its comment holds: the line's name, the right action, reason and
reference, evidence that supports it; ROUGE-L and chrF against the reference comment, in characters. Everything that is
cited is looked up in the claim, the tables and the notes. `--judge` lets a second model, a chat model, grade the comments
from 1 to 5; its figures are marked as a model's opinion. `--rules` times the checks alone. Prints tables and writes
bench/results/receipts.json.
"""

import argparse
import io
import json
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from app.generation.chat import Message
from app.generation.context import Memory
from app.generation.llama import LlamaCpp
from app.generation.receipt_reader import ReceiptReader
from app.generation.registry import Models, configured
from app.generation.structured import json_schema_grammar
from app.pipeline import Converter
from app.receipts.chart import DIFFERS, Entry, case
from app.receipts.check import check
from app.receipts.describe import line_texts
from app.receipts.tables import Tables
from app.receipts.uke import Claim, read_uke, write_uke
from app.settings import Settings
from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon
from bench import receipts_score as score
from bench.receipts_score import Judged
from schemas.note import ChartNote, DocumentType, Patient, Sex
from schemas.receipt import Advice, Advised, Case
from training.receipts.draw import Planted, Synthetic, draw

RESULTS = Path(__file__).parent / "results" / "receipts.json"
WAYS = ("rules", "differences", "model", "both")
_GRADES = {
    "type": "object",
    "properties": {
        "correct": {"type": "integer", "minimum": 1, "maximum": 5},
        "clear": {"type": "integer", "minimum": 1, "maximum": 5},
        "supported": {"type": "integer", "minimum": 1, "maximum": 5},
    },
    "required": ["correct", "clear", "supported"],
}
_JUDGE = (
    "あなたは診療報酬請求の点検者です。請求の行、診療録の記載、正しい指摘の例と、評価する指摘が示されます。"
    "評価する指摘を correct(内容の正しさ) clear(分かりやすさ) supported(根拠が記載にあるか) について1から5で採点します。"
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--claims", type=int, default=300, help="claims with planted faults, clean ones among them")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--chart", choices=("read", "gold"), default="read", help="read the notes with use case 1")
    parser.add_argument("--rules", type=int, default=0, metavar="N", help="also time the checks alone on N claims")
    parser.add_argument("--judge", type=Path, metavar="GGUF", help="a chat model that grades the comments")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print the first N comments beside their references")
    plan = parser.parse_args(arguments)
    result: dict[str, Any] = {"claims": plan.claims, "seed": plan.seed, "chart": plan.chart}
    if plan.claims:
        result |= accuracy(plan)
    if plan.rules:
        result["rules"] = speed(plan.rules, plan.seed)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, ensure_ascii=False, indent=1), encoding="utf-8")
    print(f"written: {RESULTS.name}")


# -- accuracy ---------------------------------------------------------------------------------------------------------


def accuracy(plan: argparse.Namespace) -> dict[str, Any]:
    tables = Tables.starter()
    settings = Settings()
    drawn = draw(plan.seed, "held-out", 0, plan.claims)
    models = Models(configured(settings), settings)
    try:
        reader = ReceiptReader.of(models)
        if plan.chart == "read":
            drawn = read_charts(drawn, settings)
        cases = [case(one.claim, check(one.claim, tables), tables, one.entries) for one in drawn]
        said = {
            "rules": [frozenset(f.line for block in one.blocks for f in block.findings) for one in cases],
        }
        differing = [frozenset(b.line for b in one.blocks if any(p.says.endswith(DIFFERS) for p in b.passages)) for one in cases]
        said["differences"] = [a | b for a, b in zip(said["rules"], differing, strict=True)]
        started = time.monotonic()
        both = _advise(reader, cases, everything=False)
        seconds = time.monotonic() - started
        alone = _advise(reader, [_without_findings(one) for one in cases], everything=True)
    finally:
        models.close()
    said |= {"model": [score.needing(a) for a in alone], "both": [score.needing(a) for a in both]}
    truth = [frozenset(f.line for f in one.faults if f.action is not Advised.NO_CHANGE) for one in drawn]
    lines = [frozenset(block.line for block in one.blocks) for one in cases]
    judged = {
        way: [Judged(lines[n], truth[n] & lines[n], said[way][n]) for n in range(len(drawn))] for way in WAYS
    }
    result: dict[str, Any] = {
        "lines": {way: score.with_interval(judged[way], score.line_counts) for way in WAYS},
        "of_claims": {way: score.with_interval(judged[way], score.claim_counts) for way in WAYS},
        "both_minus_rules": score.difference(judged["rules"], judged["both"]),
        "kinds": {way: score.by_kind(_found(drawn, said[way])) for way in WAYS},
        "seconds_a_claim": seconds / len(drawn),
    }
    _print_needs(result)
    comments = _comments(drawn, cases, both, tables, plan.show)
    result["comments"] = comments
    wrong = [w for one, advice in zip(drawn, both, strict=True) for a in advice for w in _unsupported(a, one, tables)]
    wrong += [w for one, advice in zip(drawn, alone, strict=True) for a in advice for w in _unsupported(a, one, tables)]
    written = sum(map(len, both)) + sum(map(len, alone))
    result["cited"] = {"comments": written, "of what is not there": len(wrong)}
    print(f"comments that cite a line, rule or passage that does not exist: {len(wrong)} of {written}")
    if plan.judge:
        result["judge"] = judge(plan.judge, drawn, cases, both)
    return result


def read_charts(drawn: Sequence[Synthetic], settings: Settings) -> list[Synthetic]:
    """The same claims with what use case 1 reads in their notes."""
    converter = Converter.load(settings, Lexicon(starter_entries(), starter_version()))
    started = time.monotonic()

    def read(entry: Entry) -> Entry:
        patient = Patient(id="0", family="架空", given="患者", sex=Sex.UNKNOWN)
        note = ChartNote(
            id=entry.note_id, document_type=DocumentType.PROGRESS, department="内科", date=entry.date, patient=patient,
            text=entry.text,
        )  # fmt: skip
        records = converter.convert(note, source="bench").records
        return replace(entry, records=tuple(record for record in records if record.written))

    try:
        with ThreadPoolExecutor(converter.slots) as pool:
            made = [replace(one, entries=tuple(pool.map(read, one.entries))) for one in drawn]
    finally:
        if converter.models:
            converter.models.close()
    notes = sum(len(one.entries) for one in drawn)
    print(f"{notes} notes read in {time.monotonic() - started:.0f} s", file=sys.stderr)
    return made


def _without_findings(one: Case) -> Case:
    return one.model_copy(update={"blocks": tuple(b.model_copy(update={"findings": ()}) for b in one.blocks)})


def _advise(reader: ReceiptReader, cases: Sequence[Case], *, everything: bool) -> list[list[Advice]]:
    with ThreadPoolExecutor(reader.model.slots) as pool:
        return [one.advice for one in pool.map(lambda c: reader.advise(c, everything=everything), cases)]


def _found(drawn: Sequence[Synthetic], said: Sequence[frozenset[int]]) -> list[tuple[Planted, bool]]:
    """Each fault and whether its line was said to need correction; of what is justified, whether it was let be."""
    return [
        (fault, (fault.line in lines) == (fault.action is not Advised.NO_CHANGE))
        for one, lines in zip(drawn, said, strict=True)
        for fault in one.faults
    ]


def _unsupported(advice: Advice, one: Synthetic, tables: Tables) -> list[str]:
    whole = case(one.claim, check(one.claim, tables), tables, one.entries)
    return score.unsupported(advice, whole, one.entries)


def _comments(
    drawn: Sequence[Synthetic], cases: Sequence[Case], advised: Sequence[Sequence[Advice]], tables: Tables, show: int
) -> dict[str, Any]:
    found: list[score.Quality] = []
    missed = shown = 0
    for one, put, advice in zip(drawn, cases, advised, strict=True):
        texts = line_texts(one.claim, tables)
        for fault in one.faults:
            if fault.action is Advised.NO_CHANGE:
                continue
            own = [a for a in advice if a.line == fault.line and a.action is not Advised.NO_CHANGE]
            if not own:
                missed += 1
                continue
            best = next((a for a in own if a.reason is fault.reason), own[0])
            found.append(score.quality(best, fault, texts[fault.line]))
            if shown < show:
                shown += 1
                print(f"  {put.head} | {texts[fault.line]}\n    {best.action} {best.reason}: {best.comment}")
                print(f"    {fault.action} {fault.reason}: {fault.comment}")
    if not found:
        print("no comment to judge")
        return {"found": 0, "missed": missed}
    cited = [q.evidence for q in found if q.evidence is not None]
    rows = {
        "names the line": mean(q.names_line for q in found),
        "right action": mean(q.action for q in found),
        "right reason": mean(q.reason for q in found),
        "right reference": mean(q.reference for q in found),
        "evidence supports it": mean(cited) if cited else 0.0,
        "all of these": mean(q.all for q in found),
        "ROUGE-L": mean(q.rouge_l for q in found),
        "chrF": mean(q.chrf for q in found),
    }
    print(f"\ncomments on the {len(found)} faults that were found ({missed} were not)")
    for name, value in rows.items():
        print(f"  {name:24}{value:8.3f}")
    return {"found": len(found), "missed": missed} | rows


def _print_needs(result: Mapping[str, Any]) -> None:
    for title, key in (("lines", "lines"), ("claims", "of_claims")):
        print(f"\nneed of correction, {title:10}{'precision':>10}{'recall':>10}{'F1':>10}{'95 %':>16}{'accuracy':>10}")
        for way in WAYS:
            one = result[key][way]
            low, high = one["f1_95"]
            print(
                f"  {way:28}{one['precision']:10.3f}{one['recall']:10.3f}{one['f1']:10.3f}"
                f"{f'{low:.3f}-{high:.3f}':>16}{one['accuracy']:10.3f}"
            )
    gained = result["both_minus_rules"]
    print(f"both minus rules, F1 of lines: {gained['difference']:+.3f} ({gained['low']:+.3f} to {gained['high']:+.3f})")
    print(f"\n{'found, by kind':34}{'planted':>8}" + "".join(f"{way:>12}" for way in WAYS))
    for kind, (planted, _) in result["kinds"]["both"].items():
        shares = "".join(f"{result['kinds'][way][kind][1] / planted:12.2f}" for way in WAYS)
        print(f"  {kind:32}{planted:8}{shares}")
    print(f"\nmodel: {result['seconds_a_claim']:.2f} s a claim")


# -- a second model's opinion -----------------------------------------------------------------------------------------


def judge(
    path: Path, drawn: Sequence[Synthetic], cases: Sequence[Case], advised: Sequence[Sequence[Advice]]
) -> dict[str, Any]:
    """Grades of 1 to 5 by the chat model at `path`: an opinion of a model, not a measure."""
    model = LlamaCpp(path, Memory(sequence_tokens=4096, slots=4))
    grammar = json_schema_grammar(_GRADES)
    grades: list[dict[str, int]] = []
    try:
        for one, put, advice in zip(drawn, cases, advised, strict=True):
            for fault in one.faults:
                own = next((a for a in advice if a.line == fault.line and a.action is not Advised.NO_CHANGE), None)
                if own is None or fault.action is Advised.NO_CHANGE:
                    continue
                block = next(b for b in put.blocks if b.line == fault.line)
                passages = "\n".join(passage.quote for passage in block.passages)
                text = f"請求: {block.text}\n記載:\n{passages}\n正しい指摘の例: {fault.comment}\n評価する指摘: {own.comment}"
                answer = model.write_chat([Message("system", _JUDGE), Message("user", text)], grammar, max_tokens=60)
                grades.append(json.loads(answer.text))
    finally:
        model.close()
    means = {key: mean(grade[key] for grade in grades) for key in ("correct", "clear", "supported")} if grades else {}
    print(f"\nopinion of the model {path.name} on {len(grades)} comments (1 to 5, not a measure): {means}")
    return {"model": path.name, "graded": len(grades), "opinion of a model": means}


# -- speed ------------------------------------------------------------------------------------------------------------


def speed(count: int, seed: int) -> dict[str, float]:
    """Claims a second without a model, on one core: a claim file of `count` claims is read, parsed and checked. It is a
    thousand drawn claims over and over, so that it is there in seconds."""
    tables = Tables.starter()
    drawn = [one.claim for one in draw(seed, "held-out", 1, min(count, 1000))]
    written = [b"".join(write_uke([claim])) for claim in drawn]
    content = b"".join(written[number % len(written)] for number in range(count))
    started = time.process_time()
    claims = findings = records = 0
    for part in read_uke(io.BytesIO(content)):
        if isinstance(part, Claim):
            claims, records, findings = claims + 1, records + len(part.records), findings + len(check(part, tables))
    seconds = time.process_time() - started
    rate = claims / seconds
    print(
        f"\nchecks alone: {claims:,} claims, {records / claims:.0f} records each, {len(content) / 2**20:.0f} MB: "
        f"{findings:,} findings, {seconds:.0f} s, {rate:,.0f} claims/s on one core"
    )
    return {"claims": claims, "records_a_claim": records / claims, "findings": findings, "claims_per_second": rate}


if __name__ == "__main__":
    main()
