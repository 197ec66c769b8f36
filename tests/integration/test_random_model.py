"""Validity by construction, not by a good model: the shipped architecture and vocabulary with weights that learnt
nothing, sampled at temperature 1. Whatever it says, the output is valid, coded from tables, and quotes the note.

All generations are made once (`generations`); each test looks at one promise in all of them. What the product's faces
are called stands under "the product's faces" alone.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import llguidance
import pytest
from random_model import write_like

from app import extraction, fhir, ssmix2
from app.errors import HyojunError, InvalidInput, TooLong
from app.generation import form, grammar
from app.generation.context import Memory
from app.generation.llama import LlamaCpp
from app.generation.reader import NoteReader, Reading, source_lines
from app.generation.request import Generated
from app.generation.segments import chunks, fold
from app.pipeline import Conversion, Converter
from app.settings import Settings
from app.terminology.entries import Entry, starter_entries, starter_version
from app.terminology.matching import Lexicon
from schemas import systems
from schemas.coding import Coding
from schemas.issue import Issue, Severity
from schemas.note import ChartNote, DocumentType, Patient
from schemas.record import Record
from schemas.statement import FIELDS, Action, AllergyCategory, Assertion, Field, InfectionResult, Kind

SHIPPED = Path(__file__).parents[2] / "weights" / "hyojun-uc1.gguf"
MODELS = 4
"""Each with other random weights: one alone has strong habits of its own."""
GENERATIONS = 200
CONTEXT = 2048

# Short, so that 200 take seconds; each for something that charts do or that a parser may trip over.
NOTES = {
    "diseases": "2型糖尿病、高血圧症\n脂質異常症の疑い。気管支喘息なし",
    "history": "既往歴：虫垂炎（H12年手術）、胃潰瘍 2003/4\n家族歴：父 胃癌、母方祖母 脳梗塞",
    "one disease": "糖尿病",
    "onsets": "R3.4.1 心筋梗塞\n昨年秋より不眠症\n平成30年5月頃〜腰痛症",
    "laboratory": "HbA1c 7.2%、CRP 0.12 mg/dL\nAST 24 U/L ALT 31",
    "table": "2026/3/1\nWBC\t6800\t/μL\nHb\t10.2\tg/dL\tL\nPLT\t21.3\t万/μL",
    "table with dates": "      4/1   3/1\nCre   1.10  0.98\nK     5.6H  4.9",
    "columns": "|項目|結果|\n|Na|140|\n|LDL-C|*158|",
    "urine": "尿蛋白(2+) 尿糖(−) 尿潜血±\nBNP <5.8 pg/mL",
    "blood group": "血液型 A型 Rh(+)\nEF 62%",
    "full width": "ＨｂＡ１ｃ　７．２％\nＬＤＬ　１２０ｍｇ／ｄＬ↑",
    "half width kana": "ｱﾑﾛｼﾞﾋﾟﾝ錠5mg 1錠 分1\nﾍﾟﾆｼﾘﾝで発疹",
    "infections": "HBs抗原 陰性、HCV抗体(+)\nHIV抗体 0.05 COI TP抗体 判定保留",
    "prescriptions": "アムロジピンOD錠5mg 1回1錠 1日1回朝食後 28日分\nロキソニン60mg 中止、ワーファリン継続",
    "prescriptions below a heading": "退院時処方（14日分）\nランソプラゾールOD15 1T 分1\nカロナール200 疼痛時",
    "products": "オペプリム\nソルベース\nエムラクリーム\nエキザルベ",
    "insulin": "ノボラピッド 朝6-昼4-夕4単位 皮下注\nプレドニン 10mg→7.5mgへ減量",
    "allergies": "卵アレルギー（蕁麻疹、呼吸困難）\nセフェム系で薬疹。造影剤禁忌\nアレルギー：なし",
    "allergens": "卵\nそば\nラテックス\nスギ",
    "infection tests": "HBs抗原 −\nHCV抗体 +\nHIV抗体 −",
    "latex": "ラテックス アルコール綿 金属 かぶれ",
    "line ends": "【S】頭痛あり\r\n\r\n【A】#1 片頭痛\r\n  #2 便秘症\r\nRp) マグミット330 3T 3x\r\n",
    "empty lines": "\n\n高血圧\n\n \n\u3000\nCRP 3.2\n\n",
    "one character": "癌",
    "one letter": "K",
    "one digit": "7",
    "one emoji": "👍",
    "family of emoji": "👨\u200d👩\u200d👧 家族に糖尿病 1名😷\n𠮷田先生 CRP 0.3 ❗️",
    "combining": "が\u3099ん e\u0301 1\u20e3 ﾊﾟ\n\u0301 7 \u200b3\ufeff",
    "controls": "\x01\x1f\x7f 1\x85\u2028 2 \x0b癌\t\t\u00a0x",
    "message signs": '|^~\\& <b>CRP</b> 1.0 \\H\\ & \' "卵"',
    "form in the note": '"}\n{"end":true}\n{"kind":"lab","name":"x","value":"1"}',
    "marks in the note": "⟨lab⟩CRP 1.0 <|endoftext|> <s> [INST] 糖尿病",
    "no dates": "2026-13-45 99/99 R0.0.0 1e9 1,2,3 0.000 −5 ½ Ⅳ ① 病",
    "long numbers": "CRP 12345678901234567890.123456789 mg/dL\nNa 1,234,567 K 007",
    "english": "Pt c/o chest pain. HTN, DM. NKDA. aspirin 100 mg qd, INR 2.1",
    "kanji numbers": "血圧 百二十／八十\n三日分 十五錠 二型糖尿病 令和元年",
    "old characters": "﨑 髙血壓 彌 ㌢ ㎎ ㈱ ℃ ﾞ ｶﾞﾝ 癌腫",
    "nothing to name": "。、・…―／（）\n１２３\n---",
}


class Recording(LlamaCpp):
    """Keeps what it wrote since `taken` was emptied, the attempts that were given up for their length aside."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.taken: list[Generated] = []

    def write(self, *args: Any, **options: Any) -> Generated:
        self.taken.append(super().write(*args, **options))
        return self.taken[-1]


class Sampling(NoteReader):
    """Draws from the model's distribution where the product takes the likeliest; keeps the last reading."""

    seed = 0
    last: Reading | None = None

    def read(self, text: str, mentions: Sequence[tuple[int, int, Kind]], document_type: str, **_: Any) -> Reading:
        self.last = super().read(text, mentions, document_type, temperature=1.0, seed=self.seed)
        return self.last


@dataclass(repr=False)
class Generation:
    """One note read once. `conversion` is None where the conversion ended in `error`."""

    name: str
    seed: int
    note: ChartNote
    mentions: list[tuple[int, int, Kind]]
    texts: list[Generated]
    reading: Reading | None = None
    conversion: Conversion | None = None
    error: HyojunError | None = None

    def __repr__(self) -> str:
        return f"note {self.name!r}, seed {self.seed}"


@dataclass
class Generations:
    all: list[Generation] = field(default_factory=list)

    @property
    def whole(self) -> Iterator[tuple[Generation, Conversion]]:
        return ((g, g.conversion) for g in self.all if g.conversion)


# --- the product's faces ---------------------------------------------------------------------------------------------


def _options(model: Path) -> Settings:
    return Settings(_env_file=None, model_path=model, facility_name="検査病院", institution_number="1310000001")


def _convert(converter: Converter, note: ChartNote) -> Conversion:
    return converter.convert(note, source="test")


def _faults(resource: dict[str, Any], note: ChartNote) -> list[str]:
    return [issue.text for issue in fhir.check(resource, text=note.text) if _stops(issue)]


def _stops(issue: Issue) -> bool:
    return issue.severity in (Severity.ERROR, Severity.FATAL)


def _table_codings(entries: Sequence[Entry]) -> dict[str, set[tuple[str, str, str]]]:
    """System, code and display of everything in the tables, by what it is a code of."""
    tables: dict[str, set[tuple[str, str, str]]] = {}
    for entry in entries:
        tables.setdefault(entry.kind, set()).update((c.system, c.code, c.display) for c in entry.codings)
    # A drug as an allergen has a code that is made of the drug table's own. Source: JP-CLINS 1.10.0, JFAGY 医薬品.
    for entry in entries:
        for coding in entry.codings:
            if coding.system == systems.YJ:
                ingredient = (f"GCM{coding.code[:9]}ZZZ", f"【成分名】{entry.fact('ingredient')}")
                tables[Kind.ALLERGY].add((systems.JFAGY_PRODUCT, f"YCM{coding.code}", coding.display))
                tables[Kind.ALLERGY].add((systems.JFAGY_INGREDIENT, *ingredient))
    return tables


def _record_codings(record: Record) -> Iterator[tuple[str, Coding]]:
    """Every code of a record, with the table that it must come from."""
    kind = record.statement.kind
    yield from ((kind, coding) for coding in record.codings)
    yield from ((kind, candidate.coding) for candidate in record.candidates)
    yield from (("modifier", coding) for modifier in record.modifiers for coding in modifier.codings)
    if record.dosage:
        yield from (("usage", coding) for coding in record.dosage.usage)


def _given(conversion: Conversion, note: ChartNote, lexicon: Lexicon) -> set[tuple[str, str]]:
    """System and code of all that may stand in the conversion's resources beside the closed lists."""
    return fhir.given(conversion.records, lexicon.department(note.department))


def _evidence(node: Any) -> Iterator[tuple[int, int]]:
    """Start and end of every derivation-reference in a resource or Bundle."""
    if isinstance(node, dict):
        if str(node.get("url", "")).endswith("/derivation-reference"):
            parts = {part["url"]: part.get("valueInteger") for part in node["extension"]}
            yield parts["offset"], parts["offset"] + parts["length"]
        for value in node.values():
            yield from _evidence(value)
    elif isinstance(node, list):
        for value in node:
            yield from _evidence(value)


# --- generations -----------------------------------------------------------------------------------------------------


def make_note(number: int, text: str) -> ChartNote:
    types = list(DocumentType)
    return ChartNote(
        id=f"n{number}",
        document_type=types[number % len(types)],
        department="内科",
        date=date(2026, 4, 1),
        patient=Patient(id="P0001", family="検査", given="花子", birth_date=date(1950, 1, 2)),
        text=text,
    )


def open_reader(path: Path) -> Sampling:
    return Sampling(Recording(path, Memory(sequence_tokens=CONTEXT, threads=1)), max_seconds=60.0)


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon(starter_entries(), starter_version())


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("random")
    return [write_like(SHIPPED, folder / f"random-{seed}.gguf", seed) for seed in range(MODELS)]


@pytest.fixture(scope="module")
def generations(models: list[Path], lexicon: Lexicon) -> Generations:
    made = Generations()
    readers = [open_reader(path) for path in models]
    converters = [Converter(reader, lexicon, _options(reader.model.path)) for reader in readers]
    for number in range(GENERATIONS):
        name, text = list(NOTES.items())[number % len(NOTES)]
        # Every note meets every model, and none meets one with the same seed twice.
        index = (number // len(NOTES)) % MODELS
        reader, converter = readers[index], converters[index]
        note = make_note(number, text)
        reader.seed, reader.last = number, None
        model = reader.model
        assert isinstance(model, Recording)
        model.taken = []
        mentions = [(m.start, m.end, m.kind) for m in lexicon.find_mentions(text)]
        one = Generation(name, number, note, mentions, model.taken)
        try:
            one.conversion = _convert(converter, note)
        except HyojunError as error:
            one.error = error
        one.reading = reader.last
        made.all.append(one)
    for reader in readers:
        reader.model.close()
    return made


# --- promises --------------------------------------------------------------------------------------------------------


def test_the_proof_is_not_empty(generations: Generations) -> None:
    """What follows would hold for a model that says nothing; this one says everything that can be said."""
    assert len(generations.all) >= GENERATIONS
    statements = [s for _, conversion in generations.whole for s in conversion.statements]
    assert len(statements) >= 500
    assert {s.kind for s in statements} == set(Kind)
    assert {s.assertion for s in statements} == set(Assertion)
    assert {s.action for s in statements if s.kind is Kind.PRESCRIPTION} == set(Action)
    assert {s.category for s in statements if s.kind is Kind.ALLERGY} == set(AllergyCategory)
    assert {s.result for s in statements if s.kind is Kind.INFECTION} == {None, *InfectionResult}
    assert {(s.kind, f) for s in statements for f in s.fields} == {(kind, f) for kind in Kind for f in FIELDS[kind]}
    # Codes are at stake only where a name was found in a table.
    coded = Counter(r.statement.kind for _, c in generations.whole for r in c.records if r.codings)
    assert set(coded) == set(Kind) and sum(coded.values()) >= 50, coded
    # The model draws: a note with something to say is read differently each time.
    for name in ("diseases", "laboratory", "prescriptions", "allergies", "table"):
        texts = [g.texts[-1].text for g in generations.all if g.name == name and g.texts]
        assert len(set(texts)) > len(texts) // 2, name


def test_a_generation_ends_by_itself_or_is_refused_for_its_length(generations: Generations) -> None:
    """No other error, and hardly any: the only thing that may go wrong is that a line brings more than fits."""
    ended = [g for g in generations.all if g.error]
    assert all(isinstance(g.error, TooLong) for g in ended), [(str(g), repr(g.error)) for g in ended]
    assert len(ended) <= len(generations.all) // 20, [str(g) for g in ended]
    for generation in ended:
        assert not any(part in str(generation.error) for part in generation.note.text.split() if len(part) > 1)


def test_every_resource_validates(generations: Generations) -> None:
    for generation, conversion in generations.whole:
        # As a client reads it: the text, not the values in memory.
        for resource in [*conversion.resources, conversion.bundle]:
            sent = fhir.loads(fhir.dumps(resource))
            assert sent == resource, generation
        assert not _faults(fhir.loads(fhir.dumps(conversion.bundle)), generation.note), generation
        assert not [i.text for i in conversion.issues if _stops(i)], generation


def test_every_code_is_from_a_table_or_a_closed_list(generations: Generations, lexicon: Lexicon) -> None:
    tables = _table_codings(starter_entries())
    everything = {(system, code) for table in tables.values() for system, code, _ in table}
    for generation, conversion in generations.whole:
        for record in conversion.records:
            for kind, coding in _record_codings(record):
                assert (coding.system, coding.code, coding.display) in tables[kind], generation
        given = _given(conversion, generation.note, lexicon)
        assert given <= everything, generation
        for resource in [*conversion.resources, conversion.bundle]:
            fhir.assert_known_codes(resource, given)
    # The check can fail: without its tables the same output is refused.
    coded = next(c for _, c in generations.whole if any(record.codings for record in c.records))
    with pytest.raises(InvalidInput):
        fhir.assert_known_codes(coded.bundle, set())


def test_every_quote_is_verbatim(generations: Generations) -> None:
    for generation, conversion in generations.whole:
        text = generation.note.text
        spans = {(s.start, s.end) for statement in conversion.statements for s in statement.fields.values()}
        for record in conversion.records:
            for span in record.statement.fields.values():
                assert text[span.start : span.end] == span.quote, generation
        assert [r.statement for r in conversion.records] == conversion.statements
        places = list(_evidence(conversion.bundle))
        assert all(0 <= start < end <= len(text) for start, end in places), generation
        assert set(places) <= spans, generation
        assert bool(places) == bool(conversion.statements), generation
        for issue in conversion.issues:
            if issue.start is not None and issue.end is not None:
                assert 0 <= issue.start < issue.end <= len(text), generation


def test_every_message_can_be_sent(generations: Generations) -> None:
    for generation, conversion in generations.whole:
        assert conversion.messages, generation
        for message in conversion.messages:
            assert ssmix2.decode(ssmix2.encode(message.text)) == message.text, generation
            segments = ssmix2.parse(message.text)
            assert segments[0].name == "MSH" and len(segments) > 2, generation


def test_the_text_obeys_the_grammar(generations: Generations) -> None:
    """Read as characters, by another matcher than the one that steered the model."""
    byte = llguidance.LLTokenizer("byte")
    marked = grammar.Writing(fragment=grammar.literal, replay=grammar.literal, marks=True)
    seen = 0
    for generation in generations.all:
        for generated in generation.texts:
            lines = _window(generation, generated)
            spec = llguidance.grammar_from("lark", grammar.build(lines, marked))
            matcher = llguidance.LLMatcher(byte, spec)
            head, _, rows = generated.text.partition("\n")
            assert json.loads(head) == {"document": generation.note.document_type} or head.startswith(form.LINE_OPEN)
            tokens = list((generated.text if head.startswith(form.LINE_OPEN) else rows).encode())
            assert matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting(), generation
            seen += 1
    assert seen >= GENERATIONS - 10


def test_every_field_is_whole_chunks_of_the_note(generations: Generations) -> None:
    """The form's own rules, said once more without llguidance."""
    for generation in generations.all:
        for generated in generation.texts:
            lines = _window(generation, generated)
            written, complete = form.read(generated.text, range(len(lines)), generated.choices)
            assert complete, generation
            for item in written:
                line = lines[item.line]
                cuts = chunks(line.text, [(start, end) for start, end, _ in line.mentions])
                above = "\n".join(earlier.text for earlier in lines[: item.line])
                assert item.fields and list(item.fields) == [f for f in FIELDS[item.kind] if f in item.fields], (
                    generation
                )
                assert item.confidence is None or 0 < item.confidence <= 1, generation
                for key, value in item.fields.items():
                    starts = {start for start, _ in cuts if line.text.startswith(value, start)}
                    whole = any(start + len(value) == end for start in starts for _, end in cuts)
                    assert whole or (key in (Field.DATE, Field.DAYS) and value in above), (generation, key)
                    assert value and value.strip() == value, (generation, key)
                assert any(c.isalpha() for c in item.fields[Field.NAME]), generation
                assert not re.fullmatch(r"[0-9年月日/.\-]+", item.fields[Field.NAME]), generation
                if Field.VALUE in item.fields:
                    assert not re.match(r"[ぁ-んァ-ヶ（(]", item.fields[Field.VALUE]), generation


def test_nothing_that_was_written_is_lost(generations: Generations) -> None:
    """What the grammar lets through is found in the note, field by field; what is left out later is named."""
    for generation, conversion in generations.whole:
        reading = generation.reading
        assert reading is not None
        located, lost = extraction.locate(reading.lines, reading.written, fold)
        assert not lost, (str(generation), [issue.text for issue in lost])
        kept = {(s.kind, *(fold(span.quote) for span in s.fields.values())) for s in located}
        assert {(w.kind, *w.fields.values()) for w in reading.written} == kept, generation
        # A statement that was located is a record, or an issue says why not; lists of names become several.
        named = {(issue.start, issue.end) for issue in conversion.issues}
        records = {(s.kind, s.name.start) for s in conversion.statements}
        for statement in located:
            place = (statement.name.start, statement.name.end)
            assert (statement.kind, statement.name.start) in records or place in named, generation


def test_output_that_exceeds_the_context_is_read_in_smaller_parts_or_refused(models: list[Path]) -> None:
    """No line is skipped: each is replayed to its end in some part, or the whole note is refused as too long."""
    text = "\n".join(NOTES[name] for name in ("laboratory", "table", "infections", "diseases"))
    lines = [fold(line.text) for line in source_lines(text) if line.text.strip()]
    outcomes: Counter[str] = Counter()
    model = Recording(models[1], Memory(sequence_tokens=256, threads=1))
    reader = NoteReader(model)
    for seed in range(16):
        model.taken = []
        try:
            reading = reader.read(text, [], "progress", temperature=1.0, seed=seed)
        except TooLong:
            outcomes["refused"] += 1
            continue
        outcomes["split" if reading.windows > 1 else "whole"] += 1
        assert all(g.prompt_tokens + g.sampled_tokens + g.forced_tokens <= 256 + 8 for g in model.taken)
        assert reading.windows == len(model.taken)
        shown: list[str] = []
        for generated in model.taken:
            assert generated.text.endswith(form.END)
            rows = [json.loads(row)["line"] for row in generated.text.split("\n") if row.startswith(form.LINE_OPEN)]
            shown += [row for row in rows if row not in shown]
        assert shown == lines
    model.close()
    assert outcomes["split"] > 0, outcomes


def test_a_seed_repeats_its_reading(models: list[Path], lexicon: Lexicon) -> None:
    """To the bit, probabilities included: in the same process, after other notes, and in a model opened anew."""
    text = NOTES["prescriptions"]
    mentions = [(m.start, m.end, m.kind) for m in lexicon.find_mentions(text)]
    readings = []
    for _ in range(2):
        reader = NoteReader(LlamaCpp(models[0], Memory(sequence_tokens=CONTEXT, threads=1)))
        for seed in (5, 6, 5):
            readings.append(reader.read(text, mentions, "progress", temperature=1.0, seed=seed).written)
            reader.read(NOTES["english"], [], "referral", temperature=1.0, seed=7)
        # The product draws nothing: a seed changes nothing.
        assert (
            reader.read(text, mentions, "progress").written == reader.read(text, mentions, "progress", seed=9).written
        )
        reader.model.close()
    assert readings[0] == readings[2] == readings[3] == readings[5]
    assert readings[1] == readings[4] != readings[0]
    assert readings[0] and all(item.confidence for item in readings[0])


def test_the_random_model_is_the_shipped_one_but_for_what_it_learnt(models: list[Path]) -> None:
    shipped, drawn = (LlamaCpp(path, Memory(sequence_tokens=256, threads=1)) for path in (SHIPPED, models[0]))
    try:
        assert shipped.vocabulary_size == drawn.vocabulary_size
        keys = ("general.architecture", "hyojun.form", "qwen2.block_count", "qwen2.embedding_length")
        assert [shipped.metadata(key) for key in keys] == [drawn.metadata(key) for key in keys]
        text = NOTES["table"] + "".join(form.all_fragments())
        for special in (True, False):
            assert shipped.tokenize(text, special=special) == drawn.tokenize(text, special=special)
        spec = llguidance.grammar_from("lark", r"start: /[^\n]{4,8}/")
        written = [model.write("糖尿病", spec).choices for model in (shipped, drawn)]
        assert written[0] != written[1]
        # Nothing is certain to it.
        assert max(logarithm for _, logarithm in written[1]) < -1.0
    finally:
        shipped.close()
        drawn.close()


def _window(generation: Generation, generated: Generated) -> list[grammar.Line]:
    """The lines that a generated text replays, as the reader plans them."""
    planned = []
    for number, line in enumerate(source_lines(generation.note.text)):
        if line.text.strip():
            end = line.start + len(line.text)
            inside = [
                (s - line.start, e - line.start, k) for s, e, k in generation.mentions if line.start <= s and e <= end
            ]
            planned.append(grammar.Line(number, fold(line.text), tuple(inside)))
    replayed = []
    for row in generated.text.split("\n"):
        if row.startswith(form.LINE_OPEN):
            replayed.append(json.loads(row)["line"])
    shown = []
    for line in planned:
        pieces, at = [], 0
        for start, _, kind in line.mentions:
            pieces += [line.text[at:start], form.MARKS[kind.value]]
            at = start
        shown.append("".join(pieces) + line.text[at:])
    firsts = [i for i in range(len(shown) + 1) if shown[i : i + len(replayed)] == replayed]
    assert firsts, f"{generation}: the replayed lines are not the note's"
    return planned[firsts[0] : firsts[0] + len(replayed)]
