"""The counts of `bench.accuracy` against the scorers whose matching it uses, and its intervals against what they must be."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon
from bench import accuracy
from bench.accuracy_score import (
    ITEMS,
    NoteScore,
    code_checks,
    differences,
    interval,
    load_scorer,
    measures,
    resamples,
    score_note,
    scorer_view,
)

ROOT = Path(__file__).resolve().parents[2]
GOLD = ROOT / "tests/notes/gold.jsonl"
TINY = Path(__file__).with_name("tiny_scorer.py")
SHARED = ROOT.parent / "shared/eval/score.py"
NOTES = [json.loads(line) for line in GOLD.read_text(encoding="utf-8").splitlines()]
needs_shared = pytest.mark.skipif(not SHARED.is_file(), reason="no scorer in ../shared/eval")
STATUS = {"suspected": "provisional", "absent": "refuted", "denied": "refuted"}


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon(starter_entries(), starter_version())


def totals(scorer: Path, gold: Path, folder: Path) -> Any:
    command = [sys.executable, str(scorer), str(gold), str(folder), "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def mistaken(facts: list[dict[str, Any]], chance: random.Random) -> list[dict[str, Any]]:
    """What a reader with faults of every kind makes of `facts`: lost, doubled, with another assertion or place."""
    told = []
    for fact in facts:
        for _ in range(chance.choice((0, 1, 1, 1, 2))):
            one = dict(fact)
            if "assertion" in one and chance.random() < 0.4:
                one["assertion"] = chance.choice(("present", "suspected", "absent", "family", "past"))
            if one.get("icd10") and chance.random() < 0.5:
                one["icd10"] = chance.choice((one["icd10"][:3], "Z99.9"))
            one["start"] += chance.choice((0, 0, 200))
            told.append(one)
    return told


def tiny_bundle(told: list[dict[str, Any]]) -> dict[str, Any]:
    entries = []
    for one in told:
        if one["item"] in ("condition", "prescription"):
            name = one.get("name") or one.get("drug")
            spans = [(one["start"], len(one["quote"]))]
            resource = {"item": one["item"], "name": name, "assertion": one.get("assertion"), "spans": spans}
            entries.append({"resource": resource | {"icd10": [one.get("icd10") or ""], "code": {}}})
    return {"entry": entries}


def fhir_bundle(told: list[dict[str, Any]]) -> dict[str, Any]:
    """As far as the scorer reads a resource."""
    entries = []
    for one in told:
        place = [{"url": "offset", "valueInteger": one["start"]}, {"url": "length", "valueInteger": len(one["quote"])}]
        resource: dict[str, Any] = {"extension": [{"url": "x/derivation-reference", "extension": place}]}
        said = one.get("assertion")
        verification = {"coding": [{"code": STATUS.get(str(said), "confirmed")}]}
        if one["item"] == "condition":
            code = {"text": one["name"], "coding": [{"system": "x/icd", "code": one["icd10"]}]}
            if said == "family":
                resource |= {"resourceType": "FamilyMemberHistory", "condition": [{"code": code}]}
            else:
                clinical = {"coding": [{"code": "resolved" if said == "past" else "active"}]}
                resource |= {"resourceType": "Condition", "code": code, "verificationStatus": verification}
                resource["clinicalStatus"] = clinical
        elif one["item"] == "allergy":
            resource |= {"resourceType": "AllergyIntolerance", "code": {"text": one["substance"]}}
            resource |= {"category": [one["category"]], "verificationStatus": verification}
        elif one["item"] == "prescription":
            dose = {"doseAndRate": [{"doseQuantity": {"value": one["dose"], "unit": one["dose_unit"]}}]}
            resource |= {"resourceType": "MedicationRequest", "dosageInstruction": [dose], "status": "active"}
            resource["medicationCodeableConcept"] = {"text": one["drug"]}
        else:
            resource |= {"resourceType": "Observation", "code": {"text": one.get("analyte") or one["display"]}}
            resource["valueString"] = str(one["value"])
        entries.append({"resource": resource})
    return {"entry": entries}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("scorer", "bundle"), [(TINY, tiny_bundle), pytest.param(SHARED, fhir_bundle, marks=[needs_shared, pytest.mark.official])]
)
def test_totals_are_the_scorers_own(tmp_path: Path, lexicon: Lexicon, scorer: Path, bundle: Any, seed: int) -> None:
    chance = random.Random(seed)
    for note in NOTES[:-1]:  # the last one is not converted
        content = bundle(mistaken(note["facts"], chance))
        (tmp_path / f"{note['id']}.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    scores = accuracy.score_folder(GOLD, tmp_path, load_scorer(scorer), lexicon)
    view = scorer_view(scores)
    assert view == totals(scorer, GOLD, tmp_path)
    assert view["missing_notes"] == [NOTES[-1]["id"]] and view["items"]["condition"]["trapped"] > 0
    found = measures(scores)
    for item in (*ITEMS, "all"):
        for name in ("name", "strict"):
            assert found["items"][item][name]["f1"] == view["items"][item][f"{name}_f1"]
            if bounds := found["items"][item][name]["interval"]:
                assert bounds[0] <= found["items"][item][name]["f1"] <= bounds[1]
    # Every disease of the gold is in one cell, but a trap that several resources spring is in several.
    facts = sum(fact["item"] == "condition" for note in NOTES for fact in note["facts"])
    assert facts <= sum(found["assertions"]["condition"].values()) <= facts + view["items"]["condition"]["trapped"]
    assert sum(kind["notes"] for kind in found["document_types"].values()) == len(NOTES)


def test_a_right_reader_has_nothing_but_ones(tmp_path: Path, lexicon: Lexicon) -> None:
    scorer = load_scorer(TINY)
    coded = code_checks(lexicon)
    scores = []
    for note in NOTES:
        facts = [fact for fact in note["facts"] if fact["item"] in ("condition", "prescription")]
        scores.append(score_note(scorer, note | {"facts": facts}, tiny_bundle(facts), coded))
    found = measures(scores)
    for item in ("condition", "prescription", "all"):
        assert found["items"][item]["strict"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "interval": [1.0, 1.0]}
    assert found["items"]["lab"]["name"] == {"precision": None, "recall": None, "f1": None, "interval": None}
    assert all(pair.split("->")[0] == pair.split("->")[1] for pair in found["assertions"]["condition"])
    assert all(code["right"] == code["facts"] > 0 for code in found["codes"].values())
    assert scorer_view(scores)["items"]["condition"]["trapped"] == 0


def test_codes_are_compared_with_golds_and_the_tables(lexicon: Lexicon) -> None:
    checks = code_checks(lexicon)

    def laboratory(code: str) -> dict[str, Any]:
        return {"resource": {"code": {"coding": [{"code": code}]}}, "icd10": [code]}

    disease = {"item": "condition", "icd10": "E11.9"}
    assert checks(disease, laboratory("E119")) == [("ICD-10, 3 characters", True), ("ICD-10, 4 characters", True)]
    assert checks(disease, laboratory("E11.2")) == [("ICD-10, 3 characters", True), ("ICD-10, 4 characters", False)]
    assert checks(disease | {"icd10": "I10"}, laboratory("I10")) == [("ICD-10, 3 characters", True)]
    assert checks({"item": "lab", "core": "CRP"}, laboratory("5C070000002399901")) == [("JLAC10, core items", True)]
    assert checks({"item": "lab", "core": "CRP"}, laboratory("5C070000002399912")) == [("JLAC10, core items", False)]
    assert checks({"item": "lab", "core": None}, laboratory("x")) == []
    infection = {"item": "infection", "display": "HCV抗体"}
    assert checks(infection, laboratory("5F360148802399911")) == [("JLAC10, infections", True)]
    assert checks(infection, laboratory("5F360145302399911")) == [("JLAC10, infections", False)]  # the RNA
    assert checks({"item": "prescription", "drug": "x"}, laboratory("x")) == []


def noted(number: int, right: int) -> NoteScore:
    score = NoteScore(f"n{number}", "progress", True)
    score.items["lab"].update(gold=10, pred=10, name_tp=right, strict_tp=right)
    return score


def test_intervals_are_those_of_the_bootstrap() -> None:
    # 400 notes of 0 or 10 right of 10: F1 is the mean of a coin, whose 95 % interval is 0.5 +- 1.96 * 0.5 / 20.
    coin = [noted(number, 10 * (number % 2)) for number in range(400)]
    low, high = measures(coin)["items"]["lab"]["name"]["interval"]
    assert low == pytest.approx(0.451, abs=0.008) and high == pytest.approx(0.549, abs=0.008)
    # Notes that differ much from each other and always by 1 between the readers: a certain difference.
    better = [noted(number, 10 * (number % 2) or 1) for number in range(400)]
    row = differences(coin, better)["lab"]["name"]
    assert row["difference"] == pytest.approx(0.05) and row["better"] == 1.0
    assert 0.04 < row["interval"][0] < 0.05 < row["interval"][1] < 0.06
    assert differences(coin, coin)["lab"]["strict"] == {"difference": 0.0, "interval": [0.0, 0.0], "better": 0.0}
    assert differences(coin, better) == differences(coin, better)
    assert differences(coin, better)["allergy"]["name"] == {"difference": None, "interval": None, "better": None}
    with pytest.raises(ValueError, match="not the same"):
        differences(coin, better[::-1])
    drawn = resamples(40)
    assert drawn.shape == (2000, 40) and (drawn.sum(axis=1) == 40).all()
    assert interval(np.array([np.nan])) is None


@pytest.fixture
def any_scorer(tmp_path: Path) -> Path:
    """The one that is there; else the tiny one, which reads no FHIR and so finds nothing in a Bundle."""
    if SHARED.is_file():
        return SHARED
    scorer = tmp_path / "scorer.py"
    scorer.write_text(TINY.read_text(encoding="utf-8").replace('bundle["entry"]', "[]"), encoding="utf-8")
    return scorer


def write_gold(path: Path, notes: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(note, ensure_ascii=False) + "\n" for note in notes), encoding="utf-8")
    return path


def test_a_model_against_itself_through_the_pipeline(
    tmp_path: Path, any_scorer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = sorted(NOTES, key=lambda note: len(note["text"]))[:2]
    gold, out = write_gold(tmp_path / "gold.jsonl", short), tmp_path / "made/accuracy.json"
    model = str(ROOT / "weights/hyojun-uc1.gguf")
    accuracy.main([str(gold), "--model", model, "--against", model, "--scorer", str(any_scorer), "--out", str(out)])
    printed = capsys.readouterr()
    assert "2 notes" in printed.err and "paired bootstrap" in printed.out
    result = json.loads(out.read_text(encoding="utf-8"))
    first, second = result["runs"]
    assert first["scores"] == second["scores"] and first["name"] == "hyojun-uc1.gguf"
    assert first["scores"]["missing_notes"] == [] and len(first["seconds"]) == 2
    assert {row["name"]["difference"] for row in result["differences"].values()} <= {0.0, None}


def test_two_prompts_of_one_chat_model(tmp_path: Path, any_scorer: Path, plain_path: Path) -> None:
    gold = write_gold(tmp_path / "gold.jsonl", [NOTES[0] | {"text": "高血圧症", "facts": []}])
    prompt, out = tmp_path / "draft.txt", tmp_path / "accuracy.json"
    prompt.write_text("病名を写してください。", encoding="utf-8")
    words = [str(gold), "--model", str(plain_path), "--against-prompt", str(prompt)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODEL_THREADS", "1")
        accuracy.main([*words, "--scorer", str(any_scorer), "--out", str(out)])
    first, second = json.loads(out.read_text(encoding="utf-8"))["runs"]
    assert first["model"]["model"] == second["model"]["model"] and first["model"]["prompt"] != second["model"]["prompt"]
    assert second["name"] == "plain.gguf, prompt draft"
    assert second["scores"]["missing_notes"] == []


@pytest.mark.parametrize(("words", "said"), [
    (["--scorer", "nowhere.py"], "name the scorer with --scorer"), (["nowhere.jsonl"], "nowhere.jsonl is not there"),
    (["--scorer", str(TINY), "--against", "nowhere.gguf"], "nowhere.gguf is not there"),
    (["--scorer", str(TINY), "--against-prompt", "uc9"], "uc9.txt is not there"),
    (["--scorer", str(TINY), "--against-prompt", "uc1"], "it is given no prompt"),
])  # fmt: skip
def test_what_is_missing_is_named(words: list[str], said: str) -> None:
    with pytest.raises(SystemExit, match=said):
        accuracy.main(words)


def test_a_script_that_is_no_scorer_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "other.py"
    script.write_text("def strict(): ...\n", encoding="utf-8")
    with pytest.raises(ValueError, match="read_bundle, same_thing"):
        load_scorer(script)
