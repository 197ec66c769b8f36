"""A scorer for diseases and drugs alone, as `bench.accuracy` wants one: usage: tiny_scorer.py GOLD.jsonl DIR --json.

The same things are those of the same name; a disease is strict with its assertion, a drug always.
"""

import json
import sys
from collections import Counter
from pathlib import Path

ITEMS = ("condition", "allergy", "infection", "lab", "prescription")


def read_bundle(bundle):
    found = []
    for entry in bundle["entry"]:
        resource = entry["resource"]
        one = {"resource": resource, "item": resource["item"], "texts": [resource["name"]], "spans": resource["spans"]}
        found.append(one | {"icd10": resource["icd10"], "assertion": resource["assertion"]})
    return found


def same_thing(fact, prediction):
    name = fact.get("name") or fact.get("drug")
    return fact["item"] == prediction["item"] and name in prediction["texts"]


def strict(fact, prediction, note_date):
    return fact["item"] != "condition" or fact["assertion"] == prediction["assertion"]


def beside(fact, prediction):
    start, length = prediction["spans"][0]
    return start < fact["start"] + len(fact["quote"]) and fact["start"] < start + length


def main(gold, folder):
    rows, pairs, evidence, missing = {item: Counter() for item in ITEMS}, Counter(), Counter(), []
    for line in Path(gold).read_text(encoding="utf-8").splitlines():
        note = json.loads(line)
        file = Path(folder) / f"{note['id']}.json"
        if not file.exists():
            missing.append(note["id"])
        found = read_bundle(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else []
        for one in found:
            evidence["resources"] += 1
            evidence["traced"] += all(start + length <= len(note["text"]) for start, length in one["spans"])
        denied = [f for f in note["facts"] if f["item"] == "condition" and f["assertion"] in ("absent", "family")]
        denied += [f for f in note["facts"] if f["item"] == "allergy" and f["assertion"] == "denied"]
        optional = [f for f in note["facts"] if f["item"] == "prescription" and f["action"] in ("plan", "history")]
        free = [o for o in found if o["item"] != "condition" or o["assertion"] not in ("absent", "family")]
        for one in free:
            rows[one["item"]]["pred"] += 1
        for fact in note["facts"]:
            row = rows[fact["item"]]
            if fact in denied:
                row["traps"] += 1
                continue
            if fact in optional:
                continue
            row["gold"] += 1
            same = [one for one in free if same_thing(fact, one)]
            best = max(same, key=lambda one: (strict(fact, one, ""), beside(fact, one)), default=None)
            if fact["item"] == "condition":
                pairs[f"{fact['assertion']}->{best['assertion'] if best else '-'}"] += 1
            if best:
                free.remove(best)
                row["name_tp"] += 1
                row["strict_tp"] += strict(fact, best, "")
                row["located"] += beside(fact, best)
        for one in free:
            trap = next((fact for fact in denied if same_thing(fact, one)), None)
            if trap:
                rows[one["item"]]["trapped"] += 1
                pairs[f"{trap['assertion']}->{one['assertion']}"] += trap["item"] == "condition"
            elif any(same_thing(fact, one) for fact in optional):
                rows[one["item"]]["pred"] -= 1
    rows["all"] = Counter()
    for item in ITEMS:
        rows["all"].update({key: rows[item][key] for key in ("gold", "pred", "name_tp", "strict_tp", "located")})
    items = {}
    for item, row in rows.items():
        both = row["gold"] + row["pred"]
        f1 = {f"{name}_f1": round(2 * row[f"{name}_tp"] / both, 4) if both else None for name in ("name", "strict")}
        located = round(row["located"] / row["name_tp"], 4) if row["name_tp"] else None
        counted = {key: row[key] for key in ("gold", "pred", "trapped", "traps")}
        items[item] = {**counted, **f1, "located": located}
    result = {"missing_notes": missing, "evidence": dict(evidence), "items": items, "condition_assertions": dict(pairs)}
    json.dump(result, sys.stdout, ensure_ascii=False)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
