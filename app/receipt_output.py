"""What was decided about a claim file, as files: a row an item (CSV), and the claim file with comments (UKE).

The claim file keeps its bytes but for what is added. Points, HO and GO totals are not computed anew: that is the work of the
billing system, which has to read the file again wherever a line was changed, added or deleted.
"""

import io
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from app.batch_report import csv_line
from app.errors import InvalidInput
from app.receipts.uke import ENCODING, ITEMS, Claim, Other, Record, read_uke, write_uke
from schemas.receipt import GENERAL, Advice, Advised, Edited, Finding, ItemState, Reason

COLUMNS = (
    "item", "claim", "line", "line_text", "origin", "rule", "reason", "severity", "action", "finding", "comment", "reference",
    "evidence", "note_id", "state", "decided_by", "decided_at",
)  # fmt: skip
BOM = "\ufeff"
"""Without it spreadsheets take the file for Shift_JIS."""
FREE_TEXT = "810000001"
"""コメントコード of what has no code of its own (コメントマスター, パターン10)."""
WIDTH = 38
"""Characters of one CO record. 記録条件仕様 allows more today; claim files as vendors write them go on in a further record here,
which every receiver prints whole."""
WHOLE = "99"
"""診療識別 of what concerns the claim as a whole, at the end of the 摘要 (記録条件仕様, 別表20)."""
_DECIDED = (ItemState.ACCEPTED, ItemState.EDITED)
# Characters that JIS X 0208 has at one place and Unicode at several; cp932 knows one of them.
_TWINS = str.maketrans({
    "\u2212": "\uff0d", "\u2013": "\uff0d", "\u301c": "\uff5e", "\u2014": "\u2015", "\u2016": "\u2225", "\u00b5": "\u03bc",
    "\u00a5": "\uffe5", "\n": "\u3000", "\t": "\u3000", "\r": None,
})  # fmt: skip
_WIDE = str.maketrans({" ": "\u3000"} | {chr(code): chr(code + 0xFEE0) for code in range(0x21, 0x7F)})
_HALF_KANA = re.compile("[\uff61-\uff9f]+")
_DISEASE = re.compile(r"傷病名 (.+?)(?: \d{4}年.*)?")


@dataclass(frozen=True)
class Item:
    """One thing to decide, as it stands. `line_text`: `app.receipts.describe.line_texts`."""

    id: str
    claim: int | None
    line: int
    line_text: str
    finding: Finding | None = None
    advice: Advice | None = None
    state: str = ItemState.OPEN
    edited: Edited | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None

    @property
    def action(self) -> Advised | None:
        """A person's, else the model's."""
        chosen = self.edited or self.advice
        return chosen.action if chosen else None

    @property
    def comment(self) -> str:
        chosen = self.edited or self.advice
        return chosen.comment if chosen else ""


# --- the table --------------------------------------------------------------------------------------------------------


def report_csv(items: Iterable[Item]) -> Iterator[str]:
    """Lines of RFC 4180 behind a byte order mark, the header first. Nothing names the patient but what the chart's own words
    (`evidence`) may."""
    yield BOM + csv_line(COLUMNS)
    for item in items:
        finding, advice = item.finding, item.advice
        origin = "+".join(name for name, found in (("rule", finding), ("model", advice)) if found is not None)
        yield csv_line([
            item.id, item.claim, item.line, item.line_text, origin, finding and finding.rule, _reason(item),
            finding and finding.severity, item.action, finding and finding.text, item.comment, reference_of(item),
            advice and advice.evidence and advice.evidence.span.quote, advice and advice.evidence and advice.evidence.note_id,
            item.state, item.decided_by, item.decided_at,
        ])  # fmt: skip


def _reason(item: Item) -> Reason | None:
    stated = item.edited.reason if item.edited else None
    return stated or (item.advice.reason if item.advice else None)


def reference_of(item: Item) -> str:
    """The document and section that speaks, for a person."""
    if item.finding is not None:
        return item.finding.reference
    cited = item.advice.reference if item.advice else ""
    return GENERAL.get(cited, cited)


# --- the claim file ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exported:
    """`comments`: records CO that were added. `changes`: decisions that changed a line, added or deleted one. `left`: ids of
    accepted items that say too little to be carried out (no code, no count), or whose line is away."""

    content: bytes
    comments: int
    changes: int
    left: tuple[str, ...]


def with_comments(content: bytes, items: Iterable[Item], *, apply: bool = False) -> Exported:
    """The claim file with the comments that were decided: those of accepted and edited items whose action is `add_comment`.
    What other items say is for the people who work on the claim, and goes to no payer.

    A comment to an act, drug or material is a record CO at the end of its 剤, with 診療識別 blank as in all records of a 剤 but
    the first. A comment to a disease, or to another line, has no place there: 症状詳記 (SJ) is for what a physician certifies.
    It becomes a CO of 診療識別 99 behind the 摘要, and begins with the disease's name. 文字データ is full-width.

    `apply`: what is to be changed, added or deleted is carried out too. Totals are never computed anew.

    Raises: InvalidInput for what the file cannot hold; it names the item.
    """
    chosen = [item for item in items if item.state in _DECIDED]
    written = {item.id: full_width(_said(item), item.id) for item in chosen if _is_comment(item)}
    by_line: dict[int, list[Item]] = defaultdict(list)
    for item in chosen:
        by_line[item.line].append(item)
    comments = changes = 0
    left: list[str] = []
    parts: list[Claim | Other] = []
    for part in read_uke(io.BytesIO(content)):
        own = [item for record in part.records for item in by_line.get(record.line, ())]
        if own and isinstance(part, Claim):
            if apply:
                part, done, undone = _changed(part, own)
                changes += done
                left += undone
            part, added, lost = _commented(part, [(item, written[item.id]) for item in own if item.id in written])
            comments += added
            left += lost
        parts.append(part)
    return Exported(b"".join(write_uke(parts)), comments, changes, tuple(left))


def full_width(text: str, item: str = "") -> str:
    """As 文字データ of a record wants it: two bytes a character. Raises: InvalidInput with the item and the place."""
    wide = _HALF_KANA.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text.strip().translate(_TWINS))
    wide = wide.translate(_WIDE)
    for position, character in enumerate(wide, 1):
        try:
            fits = len(character.encode(ENCODING)) == 2
        except UnicodeEncodeError:
            fits = False
        if not fits:
            raise InvalidInput(f"item {item}: character {position} of the comment cannot be written in Shift_JIS; edit it")
    return wide


def _is_comment(item: Item) -> bool:
    return item.action is Advised.ADD_COMMENT and bool(item.comment.strip())


def _said(item: Item) -> str:
    named = _DISEASE.fullmatch(item.line_text)
    if named is None or named[1] in item.comment:
        return item.comment
    return f"{named[1]}：{item.comment}"


def _commented(claim: Claim, comments: Sequence[tuple[Item, str]]) -> tuple[Claim, int, list[str]]:
    """With the comments, in the order of the items; how many records that made; ids of those whose line is away."""
    behind: dict[int, list[list[str]]] = defaultdict(list)
    whole: list[list[str]] = []
    lost: list[str] = []
    present = {record.line: record for record in claim.records if record.line}
    for item, text in comments:
        pieces = [text[start : start + WIDTH] for start in range(0, len(text), WIDTH)]
        if item.line not in present:
            lost.append(item.id)
        elif present[item.line].kind in ITEMS:
            group = _group(claim, item.line)
            burden = next((record.values["burden"] for record in group if record.values["burden"]), "")
            behind[group[-1].line] += [["CO", "", burden, FREE_TEXT, piece] for piece in pieces]
        else:
            sections = [WHOLE, *[""] * (len(pieces) - 1)]
            burden = _burden(claim)
            whole += [["CO", section, burden, FREE_TEXT, piece] for section, piece in zip(sections, pieces, strict=True)]
    if whole:
        behind[_end(claim).line] += whole
    for line, records in behind.items():
        for fields in reversed(records):
            claim = claim.inserted(line, fields)
    return claim, sum(map(len, behind.values())), lost


def _group(claim: Claim, line: int) -> list[Record]:
    """The records of the 剤 that `line` stands in."""
    groups: list[list[Record]] = [[]]
    for record in claim.records:
        if record.kind in ITEMS or record.kind == "CO":
            if record.values["section"]:
                groups.append([])
            groups[-1].append(record)
    return next(group for group in groups if any(record.line == line for record in group))


def _end(claim: Claim) -> Record:
    """The last record of the 摘要; of a claim without one, of the diseases, or of all."""
    kept = [record for record in claim.records if record.line]
    for kinds in ((*ITEMS, "CO"), ("SY",)):
        if found := [record for record in kept if record.kind in kinds]:
            return found[-1]
    return kept[-1]


def _burden(claim: Claim) -> str:
    """負担区分 of the claim as a whole: that of its last line; else insurance (1) or public payer alone (5)."""
    written = [record.values["burden"] for record in claim.records if record.kind in ITEMS or record.kind == "CO"]
    known = [burden for burden in written if burden]
    return known[-1] if known else "1" if any(record.kind == "HO" for record in claim.records) else "5"


# --- what is changed --------------------------------------------------------------------------------------------------


def _changed(claim: Claim, items: Sequence[Item]) -> tuple[Claim, int, list[str]]:
    """With what the items say done to their lines; how many did; ids of those that say too little."""
    done, left = 0, []
    # What takes a line away comes last: the others need it.
    for item in sorted(items, key=lambda item: item.action is Advised.DELETE_LINE):
        try:
            changed = _apply(claim, item)
        except InvalidInput as error:
            raise InvalidInput(f"item {item.id}: {error}") from None
        if changed is not None:
            claim, done = changed, done + 1
        elif item.action in _CHANGES:
            left.append(item.id)
    return claim, done, left


_CHANGES = (Advised.CHANGE_CODE, Advised.CHANGE_COUNT, Advised.DELETE_LINE, Advised.ADD_DISEASE)
_CODE = {**ITEMS, "SY": "disease"}


def _apply(claim: Claim, item: Item) -> Claim | None:
    """None: there is nothing to do, or too little is said. Raises: InvalidInput."""
    record = next((record for record in claim.records if record.line == item.line), None)
    edited = item.edited
    if item.action is Advised.DELETE_LINE and record is not None and record.kind in _CODE:
        return _deleted(claim, record)
    if edited is None or record is None:
        return None
    if item.action is Advised.CHANGE_CODE and record.kind in _CODE:
        return _recoded(claim, record, edited)
    if item.action is Advised.CHANGE_COUNT and record.kind in ITEMS and edited.count is not None:
        return _recounted(claim, record, edited.count)
    if item.action is Advised.ADD_DISEASE and edited.code is not None and edited.started is not None:
        diseases = [other.line for other in claim.records if other.kind == "SY" and other.line]
        # Behind the diseases; where there are none, before the 摘要.
        first = next((n for n, other in enumerate(claim.records) if other.kind in ITEMS or other.kind == "CO"), 0)
        after = diseases[-1] if diseases else claim.records[max(first - 1, 0)].line
        modifiers = "".join(edited.modifiers or ())
        return claim.inserted(after, ["SY", edited.code, _day(edited.started), "1", modifiers, "", "", ""])
    return None


def _day(day: date) -> str:
    return f"{day:%Y%m%d}"


def _deleted(claim: Claim, record: Record) -> Claim:
    """診療識別 stands in the first record of a 剤: the next one takes it over."""
    if record.kind in ITEMS and (section := record.values["section"]):
        group = _group(claim, record.line)
        if len(group) > 1:
            claim = claim.replaced(group[1].changed(section=section))
    return claim.without(record.line)


def _recoded(claim: Claim, record: Record, edited: Edited) -> Claim | None:
    written: dict[str, str] = {}
    if edited.code is not None:
        written[_CODE[record.kind]] = edited.code
    if record.kind == "SY":
        if edited.modifiers is not None:
            written["modifiers"] = "".join(edited.modifiers)
        if edited.code is not None and record.values["name"]:
            written["name"] = ""  # of 0000999 alone
    return claim.replaced(record.changed(**written)) if written else None


def _recounted(claim: Claim, record: Record, times: int) -> Claim:
    """回数 is that of the 剤: all its records carry it. A day's count follows where the 剤 stands on one day alone."""
    for other in _group(claim, record.line):
        if other.kind not in ITEMS or other.values["times"] != record.values["times"]:
            continue
        days = [name for name in (f"day_{day}" for day in range(1, 32)) if other.values[name]]
        counts = {days[0]: str(times)} if len(days) == 1 else {}
        claim = claim.replaced(other.changed(times=str(times), **counts))
    return claim
