"""What the chart says about the lines of a claim: passages of the notes, and the case that a model judges.

A passage stands beside a line because of a code (a condition that the drug is for, a prescription of the same ingredient)
or because it names the line's subject in a word that the tables know. Which of them matters, and how, is not decided here.
"""

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from app.receipts.describe import comments_of, head, line_texts
from app.receipts.tables import Tables
from app.receipts.uke import Claim, Disease, Item
from schemas.receipt import Block, Case, Finding, Passage, Rule
from schemas.record import Record
from schemas.statement import Action, Assertion, Kind

LONGEST = 60
"""Characters of a passage: a clause, or as much of it around what was read there."""
MOST = 4
"""Passages beside one line."""

SAYS = {
    Kind.CONDITION: {
        Assertion.PRESENT: "傷病名", Assertion.SUSPECTED: "傷病名・疑い", Assertion.ABSENT: "傷病名・否定",
        Assertion.FAMILY: "傷病名・家族", Assertion.PAST: "傷病名・既往",
    },
}  # fmt: skip
ORDERS = {
    Action.PRESCRIBE: "処方", Action.CONTINUE: "処方・継続", Action.STOP: "処方・中止", Action.CHANGE: "処方・変更",
    Action.PLAN: "処方・予定", Action.HISTORY: "処方・過去", None: "処方",
}  # fmt: skip
MENTION = "記載"
DIFFERS = "相違"
"""Ends `Passage.says` where strength, days or side are others than those of the claim."""
_STRENGTH = re.compile(r"[0-9]+(?:\.[0-9]+)?(?: ?(?:mg|μg|mcg|g|ml|%|単位))?")
_UNIT = "mμcgl%単位"
_SIDE_WORDS = {"右": "右", "左": "左", "両": "両側", "rt": "右", "lt": "左", "bil": "両側"}
_SIDE = re.compile("[右左両]|(?<![a-z])(?:rt|lt|bil)(?![a-z])")

# What ends a clause: the end of a sentence or a line; a tab or several spaces part the columns of a list.
_BORDER = re.compile(r"[。\n\t]|[ \u3000]{2,}")
# Parts of a disease's name that say nothing of what it is; a drug's name without form, strength and maker.
_SIDES = re.compile(r"^(?:両側?|右側?|左側?|急性|慢性|再発性)|の疑い$")
_PRODUCT = re.compile(
    r"([^0-9０-９「（(％%]{2,}?)"
    r"(?:口腔内崩壊錠|ＯＤ錠|OD錠|徐放錠|腸溶錠|錠|徐放カプセル|カプセル|細粒|顆粒|散|ドライシロップ|シロップ|点眼液|点鼻液|軟膏|クリーム|ローション|テープ|"
    r"パップ|貼付剤|坐剤|坐薬|注射液|静注|皮下注|注|吸入液|エアゾール|液)?(?:[0-9０-９「（(％%]|$)"
)


@dataclass(frozen=True)
class Entry:
    """A note of the patient: its text, and what use case 1 read there (or a person after it)."""

    note_id: str
    date: date
    text: str
    records: tuple[Record, ...]


def case(claim: Claim, findings: Sequence[Finding], tables: Tables, entries: Sequence[Entry]) -> Case:
    """The claim's lines in their order, each with its findings and the passages that concern it."""
    texts = line_texts(claim, tables)
    charts = [_Chart(entry) for entry in sorted(entries, key=lambda entry: (entry.date, entry.note_id))]
    blocks = []
    subjects: list[Disease | Item] = [*claim.diseases, *claim.items]
    for subject in sorted(subjects, key=lambda one: one.line):
        own = tuple(finding for finding in findings if finding.line == subject.line)
        wanted = _wanted(claim, subject, own, tables)
        found = [passage for chart in charts for passage in chart.passages(wanted)]
        blocks.append(
            Block(
                line=subject.line,
                text=texts[subject.line],
                comments=comments_of(claim, subject.line, tables),
                findings=own,
                passages=tuple(_nearest(found)),
            )
        )
    return Case(head=head(claim, tables), blocks=tuple(blocks))


@dataclass(frozen=True)
class _Wanted:
    """What makes a passage concern a line. `icd10`: prefixes, of conditions that it is about; `ingredient`: of a drug. What
    the claim says of it, to stand beside what the chart says: `strength` and `days` of a drug, `certainty` and `side` of a
    disease; blank: nothing to compare."""

    icd10: tuple[str, ...]
    ingredient: str
    words: tuple[str, ...]
    strength: str = ""
    days: str = ""
    certainty: str = ""
    side: str = ""


def _wanted(claim: Claim, subject: Disease | Item, findings: Iterable[Finding], tables: Tables) -> _Wanted:
    if isinstance(subject, Disease):
        row = tables.diseases.get(subject.code)
        name = row.name if row and row.icd10 else (subject.name or "")
        # A code says more than the first three characters of ICD-10, and a note less.
        classes = tuple(code[:3] for code in tables.icd10(subject))
        printed = tables.disease_name(subject)
        certainty = "疑い" if subject.suspected or printed.endswith("疑い") else "確定"
        return _Wanted(classes, "", _plain([_SIDES.sub("", name)]), certainty=certainty, side=_side(printed))
    key = tables.subject(subject)
    words = list(tables.words.get(key, ()))
    ingredient = strength = days = ""
    if drug := tables.drugs.get(subject.code):
        ingredient, strength = drug.ingredient, _strength(drug.name)
        # 内服: the times are days of supply.
        days = f"{subject.times}日分" if subject.section == "21" and subject.times else ""
        words += [match[1] for match in [_PRODUCT.match(drug.name)] if match]
    elif act := tables.acts.get(subject.code):
        words.append(act.name)
    prefixes: list[str] = []
    for finding in findings:
        if finding.rule in (Rule.INDICATION, Rule.SUSPECTED_INDICATION) and key in tables.indications:
            prefixes += sorted(tables.indications[key].icd10)
        if finding.rule is Rule.CONTRAINDICATION and key in tables.contraindications:
            prefixes += sorted(tables.contraindications[key].icd10)
    return _Wanted(tuple(prefixes), ingredient, _plain(words), strength, days)


class _Chart:
    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self._folded = _fold(entry.text)
        borders = [0, *(end for match in _BORDER.finditer(entry.text) for end in match.span()), len(entry.text)]
        self._clauses = list(zip(borders[::2], borders[1::2], strict=True))

    def passages(self, wanted: _Wanted) -> Iterator[tuple[int, Passage]]:
        """With how near each is: 0, of the same ingredient or disease; 1, by a word."""
        taken: list[tuple[int, int]] = []
        for record in self._entry.records:
            if (says := self._says(record, wanted)) is not None:
                name = record.statement.name
                start, end = self._around(name.start, name.end)
                if not any(start < b and a < end for a, b in taken):
                    taken.append((start, end))
                    yield 0, self._passage(start, end, says)
        for word in wanted.words:
            for match in _word(word).finditer(self._folded):
                start, end = self._around(*match.span())
                if not any(start < b and a < end for a, b in taken):
                    taken.append((start, end))
                    yield 1, self._passage(start, end, MENTION)

    def _says(self, record: Record, wanted: _Wanted) -> str | None:
        statement = record.statement
        codes = [coding.code for coding in record.codings]
        if statement.kind is Kind.CONDITION:
            if any(code.replace(".", "").startswith(wanted.icd10) for code in codes if wanted.icd10):
                return self._beside(SAYS[Kind.CONDITION][statement.assertion], record, wanted)
        elif statement.kind is Kind.PRESCRIPTION and wanted.ingredient:
            named = any(word in _fold(statement.name.quote) for word in wanted.words)
            if named or any(code.startswith(wanted.ingredient) for code in codes):
                return self._beside(ORDERS[statement.action], record, wanted)
        return None

    def _beside(self, label: str, record: Record, wanted: _Wanted) -> str:
        """`処方・継続 5mg 14日分/請求 10mg 28日分 相違`: what both sides say, in one order; a hyphen where the chart says nothing.
        Whether a difference matters is not decided here: the clause may speak of last month, or of the next."""
        name = record.statement.name
        pairs: list[tuple[str, str]] = []
        claims = []
        if record.statement.kind is Kind.PRESCRIPTION:
            days = record.dosage.days if record.dosage else None
            pairs += [_alike(wanted.strength, _strength(name.quote)), (wanted.days, f"{days}日分" if days else "")]
        elif wanted.certainty:
            start, end = self._around(name.start, name.end)
            pairs.append((wanted.side, _side(self._entry.text[start:end])))
            claims.append(wanted.certainty)
        compared = [(claimed, charted or "-") for claimed, charted in pairs if claimed]
        claims += [claimed for claimed, _ in compared]
        said = " ".join([label, *(charted for _, charted in compared)])
        differs = any(charted not in ("-", claimed) for claimed, charted in compared)
        return f"{said}/請求 {' '.join(claims)}" + (f" {DIFFERS}" if differs else "") if claims else said

    def _around(self, start: int, end: int) -> tuple[int, int]:
        """The clause that holds start..end, cut to `LONGEST` characters, without spaces at its ends."""
        first, last = next(((a, b) for a, b in self._clauses if a <= start < b), (start, end))
        last = max(last, end)
        if last - first > LONGEST:
            first = max(first, min(start - (LONGEST - (end - start)) // 3, last - LONGEST))
            last = min(last, max(first + LONGEST, end))
        text = self._entry.text
        while first < start and text[first].isspace():
            first += 1
        while last > end and text[last - 1].isspace():
            last -= 1
        return first, last

    def _passage(self, start: int, end: int, says: str) -> Passage:
        entry = self._entry
        return Passage(
            note_id=entry.note_id, note_date=entry.date, start=start, end=end, quote=entry.text[start:end], says=says
        )


def _nearest(found: Sequence[tuple[int, Passage]]) -> list[Passage]:
    """The `MOST` passages that are nearest, in the order of the chart."""
    order = sorted(range(len(found)), key=lambda number: (found[number][0], number))[:MOST]
    return [found[number][1] for number in sorted(order)]


@functools.lru_cache(10_000)
def _word(word: str) -> re.Pattern[str]:
    """Letters of a Latin word stand alone: Cr is no part of CRP."""
    before = "(?<![a-z])" if word[0].isascii() and word[0].isalpha() else ""
    behind = "(?![a-z])" if word[-1].isascii() and word[-1].isalpha() else ""
    return re.compile(before + re.escape(word) + behind)


def _strength(name: str) -> str:
    """The first number of a product's name with its unit, if it has one: 250mg, 5, 0.75μg."""
    found = _STRENGTH.search(_fold(name))
    return found[0].replace(" ", "") if found else ""


def _alike(claimed: str, charted: str) -> tuple[str, str]:
    """Two strengths without their units where one of them has none: ナウゼリン錠10 is ナウゼリン 10mg."""
    if claimed and charted and claimed[-1].isdigit() != charted[-1].isdigit():
        return claimed.rstrip(_UNIT), charted.rstrip(_UNIT)
    return claimed, charted


def _side(text: str) -> str:
    found = _SIDE.search(_fold(text))
    return _SIDE_WORDS[found[0]] if found else ""


def _plain(words: Iterable[str]) -> tuple[str, ...]:
    folded = (_fold(word).strip() for word in words)
    return tuple(dict.fromkeys(word for word in folded if len(word) > 1))


def _fold(text: str) -> str:
    """Character by character, so that offsets keep their meaning: widths and cases are one."""
    return "".join(
        folded if len(folded := unicodedata.normalize("NFKC", character).casefold()) == 1 else character
        for character in text
    )
