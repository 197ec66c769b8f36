"""Synthetic notes in numbered shards: the same seed and number give the same notes, made on the way or read from disk.

A shard on disk is JSONL, a note a line:

    {"document_type": …, "text": …, "facts": [{"line", "kind", "fields", labels …}], "form": …}

`line` counts the lines of `text` from 0; `form` is the statement form of the note as any model writes it. Lines are those
of the reader (`app.generation.reader.source_lines`): a long line of the corpus is cut there behind its sentences.
"""

import json
import os
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from app.generation import form
from app.generation.reader import source_lines
from app.generation.segments import fold
from schemas.statement import Action, AllergyCategory, Assertion, Field, InfectionResult, Kind
from training.corpus.core import REMOTE, Fact, Line, problems
from training.corpus.frame import note
from training.corpus.names import Names

Part = Literal["train", "held-out"]


@dataclass(frozen=True)
class Note:
    document_type: str
    lines: Sequence[Line]

    @property
    def text(self) -> str:
        return "\n".join(line.text for line in self.lines)


def draw(seed: int, part: Part, number: int, count: int, names: Names) -> list[Note]:
    """The `count` notes of shard `number`; parts and numbers share no random numbers."""
    rng = random.Random(f"{seed}/{part}/{number}")
    found: list[Note] = []
    while len(found) < count:
        context, lines = note(rng, names)
        if not problems(lines):
            found.append(Note(context.document_type, as_read(lines)))
    return found


def as_read(lines: Sequence[Line]) -> list[Line]:
    """`lines` as the reader cuts them. A line whose facts reach over a cut stays whole."""
    found: list[Line] = []
    for line in lines:
        parts = source_lines(line.text)
        found += [line] if len(parts) < 2 else _divided(line, [(part.start, part.text) for part in parts])
    return found


def _divided(line: Line, parts: list[tuple[int, str]]) -> list[Line]:
    made = [Line(text) for _, text in parts]
    at = 0
    for fact in line.facts:
        name = fact.fields[Field.NAME]
        at = line.text.find(name, at)
        index = max(i for i, (start, _) in enumerate(parts) if start <= max(at, 0))
        text = parts[index][1]
        apart = [p for key, p in fact.fields.items() if p not in text and key not in REMOTE]
        if at < 0 or at + len(name) > parts[index][0] + len(text) or apart:
            return [line]
        made[index].facts.append(fact)
    return [line] if problems(made) else made


def written(lines: Sequence[Line]) -> str:
    """The statement form of `lines` in characters, folded as the product folds them, as a model without a token for each
    fragment writes it."""
    found = []
    for line in lines:
        if line.text.strip():
            found.append(form.LINE_OPEN + form.escape(fold(line.text)) + form.CLOSE)
            found += [text for fact in line.facts for text, _ in form.parts(as_written(fact))]
    return "".join([*found, form.END])


def as_written(fact: Fact) -> form.Written:
    fields = {key: fold(piece) for key, piece in fact.fields.items()}
    return form.Written(0, fact.kind, fields, fact.assertion, fact.category, fact.result, fact.action)


# -- on disk ----------------------------------------------------------------------------------------------------------


def path_of(folder: Path, part: Part, number: int) -> Path:
    return folder / f"{part}-{number:05}.jsonl"


def found_in(folder: Path, part: Part) -> list[Path]:
    """The shards of `part`, in their order."""
    return sorted(path for path in folder.glob(f"{part}-*.jsonl") if path.stem.removeprefix(f"{part}-").isdigit())


def pairs_in(folder: Path, part: Part) -> list[Path]:
    """The chats of the shards of `part`, in their order."""
    return [path for path in (one.with_name(f"pairs-{one.name}") for one in found_in(folder, part)) if path.is_file()]


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Writes `path` whole or not at all; returns how many rows it has."""
    count = 0
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    os.replace(part, path)
    return count


def write(path: Path, notes: Iterable[Note]) -> int:
    return write_lines(path, map(_as_json, notes))


def read(path: Path) -> list[Note]:
    """Raises ValueError for a file that is no shard."""
    try:
        with path.open(encoding="utf-8") as file:
            return [_from_json(json.loads(row)) for row in file]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{path} is no shard of notes with facts: {error!r}") from None


def _as_json(one: Note) -> dict[str, Any]:
    facts = [
        {"line": number, "kind": f.kind, "fields": f.fields}
        | {key: label for key in ("assertion", "category", "result", "action") if (label := getattr(f, key))}
        for number, line in enumerate(one.lines)
        for f in line.facts
    ]
    return {"document_type": one.document_type, "text": one.text, "facts": facts, "form": written(one.lines)}


def _from_json(row: dict[str, Any]) -> Note:
    lines = [Line(text) for text in row["text"].split("\n")]
    for fact in row["facts"]:
        category, result, action = (fact.get(key) for key in ("category", "result", "action"))
        lines[fact["line"]].facts.append(
            Fact(
                Kind(fact["kind"]),
                {Field(key): piece for key, piece in fact["fields"].items()},
                Assertion(fact.get("assertion", "present")),
                AllergyCategory(category) if category else None,
                InfectionResult(result) if result else None,
                Action(action) if action else None,
            )
        )
    return Note(row["document_type"], lines)
