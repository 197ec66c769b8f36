"""What `bench.accuracy` counts for each note, and what the counts of many notes say, with intervals.

Which resource stands for which fact is decided by the scorer's own functions (`read_bundle`, `same_thing`, `strict`), in
the scorer's own order, so that totals are those that it prints. What it does not keep is added: counts for each note (from
them document types and intervals), precision and recall, every pair of assertions, and codes.
"""

import importlib.util
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from app.terminology.matching import Lexicon
from schemas.statement import Kind

ITEMS = ("condition", "allergy", "infection", "lab", "prescription")
DENIED = {"condition": ("absent", "family"), "allergy": ("denied",)}
"""Assertions that are no fact about the patient: a resource that asserts one of them springs a trap."""
NO_RESOURCE = "-"
RESAMPLES = 2000
SEED = 20260401
_SUMS = ("gold", "pred", "name_tp", "strict_tp")

Fact = dict[str, Any]
Coded = Callable[[Fact, Fact], list[tuple[str, bool]]]


class Scorer(Protocol):
    """The functions of the scorer's script that pair facts with resources."""

    def read_bundle(self, bundle: dict[str, Any]) -> list[Fact]: ...
    def same_thing(self, fact: Fact, prediction: Fact) -> bool: ...
    def strict(self, fact: Fact, prediction: Fact, note_date: str) -> bool: ...


def load_scorer(path: Path) -> Scorer:
    """The script at `path` as a module. Raises ValueError when it has not the functions of a scorer."""
    spec = importlib.util.spec_from_file_location("scorer", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python script")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    missing = [name for name in ("read_bundle", "same_thing", "strict") if not hasattr(module, name)]
    if missing:
        raise ValueError(f"{path} has no function {', '.join(missing)}")
    return module


@dataclass
class NoteScore:
    """The counts of one note. `assertions`: (item, gold, predicted), where `NO_RESOURCE` stands for nothing found.
    `sprung`: those of them that sprang a trap. `codes`: (measure, is it right) over the facts that were found."""

    note_id: str
    document_type: str
    converted: bool
    items: dict[str, Counter[str]] = field(default_factory=lambda: {item: Counter() for item in ITEMS})
    assertions: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    sprung: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    codes: Counter[tuple[str, bool]] = field(default_factory=Counter)
    resources: int = 0
    traced: int = 0


def score_note(scorer: Scorer, note: Fact, bundle: dict[str, Any] | None, coded: Coded) -> NoteScore:
    """The counts of `note` (a line of the gold file); `bundle` None: it was not converted."""
    found = scorer.read_bundle(bundle) if bundle is not None else []
    score = NoteScore(note["id"], note.get("document_type", "?"), bundle is not None)
    for one in found:
        score.resources += 1
        inside = [span for span in one["spans"] if 0 <= span[0] < sum(span) <= len(note["text"])]
        score.traced += bool(inside) and len(inside) == len(one["spans"])
    traps = [fact for fact in note["facts"] if _denied(fact)]
    optional = [f for f in note["facts"] if f["item"] == "prescription" and f["action"] in ("plan", "history")]
    wanted = [fact for fact in note["facts"] if not _denied(fact) and fact not in optional]
    asserted = [one for one in found if not _denied(one)]
    free = list(asserted)
    for fact in sorted(wanted, key=lambda fact: fact["start"]):
        counts = score.items[fact["item"]]
        counts["gold"] += 1
        best = max(
            (one for one in free if scorer.same_thing(fact, one)),
            key=lambda one: (scorer.strict(fact, one, note["date"]), _beside(fact, one)),
            default=None,
        )
        if best is not None:
            free.remove(best)
            counts["name_tp"] += 1
            counts["strict_tp"] += scorer.strict(fact, best, note["date"])
            counts["located"] += _beside(fact, best)
            score.codes.update(coded(fact, best))
        if "assertion" in fact:
            told = best["assertion"] if best is not None else NO_RESOURCE
            score.assertions[fact["item"], fact["assertion"], told] += 1
    for one in asserted:
        score.items[one["item"]]["pred"] += 1
    caught: list[int] = []
    for one in free:
        at = next((at for at, fact in enumerate(traps) if scorer.same_thing(fact, one)), None)
        if at is not None:
            trap = traps[at]
            caught.append(at)
            score.items[one["item"]]["trapped"] += 1
            score.sprung[trap["item"], trap["assertion"], one["assertion"]] += 1
        elif any(scorer.same_thing(fact, one) for fact in optional):
            score.items[one["item"]]["pred"] -= 1
    score.assertions.update(score.sprung)
    denied = [one for one in found if _denied(one)]
    for at, fact in enumerate(traps):
        score.items[fact["item"]]["traps"] += 1
        if at in caught:
            continue
        told = next((one for one in denied if scorer.same_thing(fact, one)), None)
        if told is not None:
            denied.remove(told)
        score.assertions[fact["item"], fact["assertion"], told["assertion"] if told else NO_RESOURCE] += 1
    return score


def _denied(one: Fact) -> bool:
    return one["item"] in DENIED and one["assertion"] in DENIED[one["item"]]


def _beside(fact: Fact, one: Fact) -> bool:
    """Does a span of `one` overlap the quote?"""
    end = fact["start"] + len(fact["quote"])
    return any(start < end and fact["start"] < start + length for start, length in one["spans"])


def code_checks(lexicon: Lexicon) -> Coded:
    """What the codes of a resource are compared with: the ICD-10 code that gold gives, by three characters and by four
    where it has so many; the JLAC10 code that the table has for gold's core item; any of the codes of gold's infection
    test, since gold does not say its method."""
    core: dict[str, set[str]] = {}
    infection: dict[str, set[str]] = {}
    for kind, fact, table in ((Kind.LAB, "core", core), (Kind.INFECTION, "group", infection)):
        for entry in lexicon.entries(kind):
            if name := entry.fact(fact):
                table.setdefault(name, set()).update(coding.code for coding in entry.codings)

    def checks(fact: Fact, one: Fact) -> list[tuple[str, bool]]:
        if fact["item"] == "condition" and fact.get("icd10"):
            gold, codes = _bare(fact["icd10"]), [_bare(code) for code in one["icd10"]]
            lengths = [length for length in (3, 4) if len(gold) >= length]
            return [(f"ICD-10, {n} characters", any(code[:n] == gold[:n] for code in codes)) for n in lengths]
        codes = [coding.get("code", "") for coding in one["resource"].get("code", {}).get("coding", [])]
        if fact["item"] == "lab" and fact.get("core") in core:
            return [("JLAC10, core items", not core[fact["core"]].isdisjoint(codes))]
        if fact["item"] == "infection" and fact["display"] in infection:
            return [("JLAC10, infections", not infection[fact["display"]].isdisjoint(codes))]
        return []

    return checks


def _bare(code: str) -> str:
    return code.replace(".", "").upper()


# -- sums -----------------------------------------------------------------------------------------------------------------


def scorer_view(scores: Sequence[NoteScore]) -> dict[str, Any]:
    """What the scorer itself prints with --json, of the same notes."""
    rows = {item: _sum(score.items[item] for score in scores) for item in ITEMS}
    keys = (*_SUMS, "located")
    rows["all"] = Counter({key: sum(rows[item][key] for item in ITEMS) for key in keys})
    items = {}
    for item, row in rows.items():
        items[item] = {
            "gold": row["gold"],
            "pred": row["pred"],
            "name_f1": rounded(f1(row["name_tp"], row["gold"], row["pred"])),
            "strict_f1": rounded(f1(row["strict_tp"], row["gold"], row["pred"])),
            "located": round(row["located"] / row["name_tp"], 4) if row["name_tp"] else None,
            "trapped": row["trapped"],
            "traps": row["traps"],
        }
    pairs: Counter[tuple[str, str]] = Counter()
    for score in scores:
        for (item, gold, told), count in score.assertions.items():
            if item == "condition" and gold not in DENIED[item]:
                pairs[gold, told] += count
        for (item, gold, told), count in score.sprung.items():
            if item == "condition":
                pairs[gold, told] += count
    resources = sum(score.resources for score in scores)
    return {
        "missing_notes": [score.note_id for score in scores if not score.converted],
        "evidence": {"resources": resources, "traced": sum(s.traced for s in scores)} if resources else {},
        "items": items,
        "condition_assertions": {f"{gold}->{told}": count for (gold, told), count in sorted(pairs.items())},
    }


def measures(scores: Sequence[NoteScore]) -> dict[str, Any]:
    """Precision, recall and F1 with their intervals for each item and over all; assertions, codes, document types."""
    weights = resamples(len(scores))
    items = {}
    for item in (*ITEMS, "all"):
        counts = _counts(scores, item)
        items[item] = {name: _measure(counts, name, weights) for name in ("name", "strict")}
    kinds = sorted({score.document_type for score in scores})
    types = {}
    for kind in kinds:
        counts = _counts([score for score in scores if score.document_type == kind], "all")
        types[kind] = {
            "notes": len(counts),
            "gold": int(counts.sum(axis=0)[0]),
            **{f"{name}_f1": rounded(float(_f1(counts.sum(axis=0), name))) for name in ("name", "strict")},
        }
    codes = _sum(score.codes for score in scores)
    assertions: dict[str, dict[str, int]] = {}
    for (item, gold, told), count in sorted(_sum(score.assertions for score in scores).items()):
        assertions.setdefault(item, {})[f"{gold}->{told}"] = count
    return {
        "items": items,
        "document_types": types,
        "codes": {
            measure: {"facts": codes[measure, True] + codes[measure, False], "right": codes[measure, True]}
            for measure in sorted({measure for measure, _ in codes})
        },
        "assertions": assertions,
    }


def differences(first: Sequence[NoteScore], second: Sequence[NoteScore]) -> dict[str, Any]:
    """F1 of `second` less that of `first` over the same notes in the same order, with the interval of the paired
    bootstrap (both are resampled together) and the share of resamples in which `second` is the better one."""
    if [score.note_id for score in first] != [score.note_id for score in second]:
        raise ValueError("the notes are not the same")
    weights = resamples(len(first))
    found: dict[str, Any] = {}
    for item in (*ITEMS, "all"):
        one, other = _counts(first, item), _counts(second, item)
        found[item] = {}
        for name in ("name", "strict"):
            drawn = _f1(weights @ other, name) - _f1(weights @ one, name)
            difference = float(_f1(other.sum(axis=0), name) - _f1(one.sum(axis=0), name))
            better = float((drawn > 0).mean()) if not np.isnan(drawn).all() else None
            found[item][name] = {"difference": rounded(difference), "interval": interval(drawn), "better": better}
    return found


def resamples(count: int, draws: int = RESAMPLES, seed: int = SEED) -> NDArray[np.int64]:
    """How often each of `count` units is drawn, with replacement, one row for each resample."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)


def interval(drawn: NDArray[np.float64]) -> list[float] | None:
    """The middle 95 % of the resamples in which the measure is defined."""
    if np.isnan(drawn).all():
        return None
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return [round(float(low), 4), round(float(high), 4)]


def f1(right: float, gold: float, found: float) -> float | None:
    return 2 * right / (gold + found) if gold + found else None


def rounded(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else round(float(value), 4)


def _sum(counters: Iterable[Mapping[Any, int]]) -> Counter[Any]:
    total: Counter[Any] = Counter()
    for counter in counters:
        total.update(counter)
    return total


def _counts(scores: Sequence[NoteScore], item: str) -> NDArray[np.float64]:
    """One row for each note, columns as `_SUMS`."""
    chosen = ITEMS if item == "all" else (item,)
    rows = [[sum(score.items[one][key] for one in chosen) for key in _SUMS] for score in scores]
    return np.array(rows, dtype=np.float64).reshape(len(scores), len(_SUMS))


def _f1(sums: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    right = sums[..., _SUMS.index(f"{name}_tp")]
    both = sums[..., 0] + sums[..., 1]
    return np.divide(2 * right, both, out=np.full_like(both, np.nan), where=both > 0)


def _measure(counts: NDArray[np.float64], name: str, weights: NDArray[np.int64]) -> dict[str, Any]:
    total = counts.sum(axis=0)
    right = total[_SUMS.index(f"{name}_tp")]
    return {
        "precision": rounded(right / total[1]) if total[1] else None,
        "recall": rounded(right / total[0]) if total[0] else None,
        "f1": rounded(float(_f1(total, name))),
        "interval": interval(_f1(weights @ counts, name)),
    }
