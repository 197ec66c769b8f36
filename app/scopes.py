"""What a note writes once for several statements: the dates in the head of a table, the date of a heading, the unit of a
row, the days of supply of a whole list. Each is given to the statements it covers, with its own characters as evidence.

A model reads line by line and may miss what stands lines away; where a field belongs by the layout alone it is computed.
A date from another line gives way to the one that the layout proves; what stands on a statement's own line is kept.
"""

import bisect
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from schemas.note import SourceLine
from schemas.statement import EvidenceSpan, Field, Kind, Statement

# Dates as a head of a column or a heading has them; a lone "3月" is none in a table head, where it may be a price.
_DATE = re.compile(
    r"(?<![0-9./-])(?:(?:令和|平成|[RH])(?:元|[0-9]{1,2})[年./][0-9]{1,2}[月./][0-9]{1,2}日?"
    r"|(?:令和|平成)(?:元|[0-9]{1,2})年(?:[0-9]{1,2}月)?"
    r"|'?(?:[0-9]{4}|[0-9]{2})[年./-][0-9]{1,2}[月./-][0-9]{1,2}日?|[0-9]{4}[年./][0-9]{1,2}月?"
    r"|(?:1[0-2]|0?[1-9])(?:/|月)(?:3[01]|[12][0-9]|0?[1-9])日?|[0-9]{4}年)(?![0-9./])"
)
# Words of headings over results.
_RESULTS = re.compile(r"検査|採血|血液|感染症|データ|生化学|血算|凝固|検尿|尿所見|ラボ|[Ll]abo?\b|[Dd]ata|血ガス|腫瘍マーカー|ホルモン")
# Those of them that begin another sampling; the others (血算, 生化学 …) may be groups of one.
_SAMPLING = re.compile(r"検査|採血|データ|ラボ|[Ll]abo?\b|[Dd]ata")
_HEADING = re.compile(r"^\s*[【\[<〈《(■□◆◇●○◎#*・=-]|[::】\]>〉》)]\s*$|^\s*\S{1,12}\s*$")
_TITLE = re.compile(r"^\s*[【\[<〈《■□◆◇●○◎#]")
_SUPPLY = re.compile(r"(?<![0-9])[0-9]{1,3}\s*(?:日分|日間|TD|週間分)(?!以上|前|後)")
# A flag may stand between a row's last result and its unit. The unit has a slash, a percent sign or stands alone.
_TAIL_UNIT = re.compile(r"[\s)|]*(?:[HL↑↓]{1,2}[\s)|]*)?([^\s|]*[A-Za-zμ]/[^\s|]*|%|/μL|万/μL|[×x]?10\^\d+/μL|秒|fL|pg|COI)[\s|]*")
_LOOK_UP = 25


def distribute(
    lines: Sequence[SourceLine], statements: Sequence[Statement], fold: Callable[[str], str] = lambda text: text
) -> list[Statement]:
    """The statements in their order, with dates and days of supply that stand once for several of them.

    `fold` maps a line to ASCII digits and signs, character by character.
    """
    page = _Page(lines, statements, fold)
    found = list(statements)
    changes = [
        *((index, Field.DATE, span) for index, span in page.column_dates()),
        *((index, Field.DATE, span) for index, span in page.heading_dates()),
        *((index, Field.UNIT, span) for index, span in page.row_units()),
        *((index, Field.DAYS, span) for index, span in page.supplies()),
    ]
    for index, field, span in changes:
        fields = {key: value for key, value in found[index].fields.items() if key is not field}
        found[index] = found[index].model_copy(update={"fields": fields | ({field: span} if span else {})})
    return found


class _Page:
    def __init__(self, lines: Sequence[SourceLine], statements: Sequence[Statement], fold: Callable[[str], str]) -> None:
        self.lines = lines
        self.statements = statements
        self.texts = [fold(line.text) for line in lines]
        starts = [line.start for line in lines]
        self.line_of = [bisect.bisect_right(starts, s.name.start) - 1 for s in statements]
        self.by_line: dict[int, list[int]] = {}
        for index, number in enumerate(self.line_of):
            self.by_line.setdefault(number, []).append(index)
        self.results = {n for n, i in self.by_line.items() if any(self._is_result(k) for k in i)}

    def _is_result(self, index: int) -> bool:
        return self.statements[index].kind in (Kind.LAB, Kind.INFECTION)

    def _begin(self, index: int) -> int:
        """Where the statement itself begins: its date may stand before it, on another line too."""
        return min(span.start for key, span in self.statements[index].fields.items() if key not in (Field.DATE, Field.DAYS))

    def _span(self, number: int, match: re.Match[str]) -> EvidenceSpan:
        line = self.lines[number]
        start, end = line.start + match.start(), line.start + match.end()
        return EvidenceSpan(start=start, end=end, quote=line.text[match.start() : match.end()])

    # -- tables -----------------------------------------------------------------------------------------------

    def column_dates(self) -> Iterator[tuple[int, EvidenceSpan]]:
        """(statement, date of its column): rows below a line with two dates or more and no results of its own."""
        for number in sorted(self.results):
            head = self._head(number)
            if head is None:
                continue
            dates = list(_DATE.finditer(self.texts[head]))
            rows: dict[str, list[int]] = {}
            for index in self.by_line[number]:
                dated = self._has_own_date(index)
                if self._is_result(index) and Field.VALUE in self.statements[index].fields and not dated:
                    rows.setdefault(self.statements[index].name.quote, []).append(index)
            # Below a further title, a single result need not be a cell of the table any more.
            titled = any(_TITLE.match(self.texts[n]) for n in range(head + 1, number) if n not in self.results)
            for row in rows.values():
                if (len(rows) > 1 or titled) and len(row) < len(dates):
                    continue  # several tests on one line are no row, but AST/ALT 24/31 28/30 is
                row.sort(key=lambda i: self.statements[i].fields[Field.VALUE].start)
                for index, column in zip(row, self._columns(number, row, head, dates), strict=False):
                    yield index, self._span(head, dates[column])

    def _head(self, number: int) -> int | None:
        """The line above with the dates of the columns: through rows of results only, at most 25 lines."""
        for above in range(number - 1, max(-1, number - 1 - _LOOK_UP), -1):
            text = self.texts[above]
            if above not in self.results and len(_DATE.findall(text)) >= 2:
                rest = _DATE.sub("", text)
                # A head holds dates and a few words (検査, 項目, 単位), not a sentence about two days.
                return above if len(re.sub(r"[\s|:()\[\]【】]", "", rest)) <= 16 else None
            if above not in self.results and len(text.strip()) > 30:
                return None
            if not text.strip():
                return None
        return None

    def _columns(self, number: int, row: list[int], head: int, dates: list[re.Match[str]]) -> list[int]:
        """For each result of a row the number of its column; empty where it is not clear."""
        if len(row) == len(dates):
            return list(range(len(dates)))
        if len(row) > len(dates):
            return []
        # Cells are missing: the column whose head starts nearest, in the width of characters on a screen, or by the
        # number of signs between cells where there are any.
        start = self.lines[number].start
        value_starts = [self.statements[i].fields[Field.VALUE].start - start for i in row]
        for sign in "\t|":
            if sign in self.texts[head] and sign in self.texts[number]:
                cells = [self.texts[head].count(sign, 0, date.start()) for date in dates]
                found = [self.texts[number].count(sign, 0, at) for at in value_starts]
                return [cells.index(cell) for cell in found] if set(found) <= set(cells) else []
        heads = [_width(self.lines[head].text[: date.start()]) for date in dates]
        values = [_width(self.lines[number].text[:at]) for at in value_starts]
        nearest = [min((abs(head - value), c) for c, head in enumerate(heads))[1] for value in values]
        return nearest if len(set(nearest)) == len(nearest) and nearest == sorted(nearest) else []

    # -- headings ---------------------------------------------------------------------------------------------

    def heading_dates(self) -> Iterator[tuple[int, EvidenceSpan | None]]:
        """(statement, date): results without a date of their own line, under or behind a heading of results that has
        exactly one date. None: the date that was read belongs to another result."""
        in_table = {index for index, _ in self.column_dates()}
        for number in sorted(self.results):
            waiting = [i for i in self.by_line[number] if self._is_result(i) and i not in in_table]
            foreign = [i for i in waiting if self._has_own_date(i) and self._is_in_brackets_of_another(i)]
            waiting = [i for i in waiting if i in foreign or not self._has_own_date(i)]
            if waiting and (span := self._heading_date(number)):
                yield from ((index, span) for index in waiting)
            else:
                yield from ((i, None) for i in waiting if i in foreign or self._is_of_another(i) or self._begins_anew(number))

    def _has_own_date(self, index: int) -> bool:
        """Does the date stand on the result's own line?"""
        date = self.statements[index].fields.get(Field.DATE)
        line = self.lines[self.line_of[index]]
        return date is not None and line.start <= date.start <= line.start + len(line.text)

    def _is_in_brackets_of_another(self, index: int) -> bool:
        """HbA1c 7.2（前回 2/14 7.6）、Cre 0.9: the date in the brackets is that of the result in them, not of Cre."""
        line = self.lines[self.line_of[index]]
        date, value = (self.statements[index].fields.get(field) for field in (Field.DATE, Field.VALUE))
        if date is None or value is None:
            return False
        text = self.texts[self.line_of[index]]
        opened = text.rfind("(", 0, date.start - line.start)
        closed = text.find(")", date.end - line.start)
        if opened < 0 or closed < 0 or ")" in text[opened : date.start - line.start]:
            return False
        start, end = line.start + opened, line.start + closed
        others = (self.statements[i].fields.get(Field.VALUE) for i in self.by_line[self.line_of[index]] if i != index)
        return not start < value.start < end and any(other and start < other.start < end for other in others)

    def _begins_anew(self, number: int) -> bool:
        """Do the results of the line stand behind an undated heading of their own (入院時検査：)?"""
        first = min(self._begin(i) for i in self.by_line[number]) - self.lines[number].start
        return bool(_SAMPLING.search(self.texts[number][:first]))

    def _is_of_another(self, index: int) -> bool:
        """Does the date stand on a line above, behind a result there?"""
        date = self.statements[index].fields.get(Field.DATE)
        if date is None:
            return False
        above = bisect.bisect_right([line.start for line in self.lines], date.start) - 1
        return any(self._is_result(i) and self._begin(i) < date.start for i in self.by_line.get(above, ()))

    def _heading_date(self, number: int) -> EvidenceSpan | None:
        first = min(self._begin(i) for i in self.by_line[number]) - self.lines[number].start
        if self._dated_heading(self.texts[number][:first]):
            return self._only_date(number, first)
        if self._begins_anew(number):
            return None
        for above in range(number - 1, max(-1, number - 1 - _LOOK_UP), -1):
            text = self.texts[above]
            if not text.strip():
                return None
            if above in self.results:
                before = min(self._begin(i) for i in self.by_line[above]) - self.lines[above].start
                if self._dated_heading(text[:before]):
                    return self._only_date(above, before)
                if _SAMPLING.search(text[:before]):
                    return None
                continue
            if self._dated_heading(text):
                return self._only_date(above, len(text))
            if _HEADING.search(text) or above in self.by_line or len(text) > 20:
                return None
        return None

    @staticmethod
    def _dated_heading(text: str) -> bool:
        return len(text) <= 40 and bool(_RESULTS.search(text)) and len(_DATE.findall(text)) == 1

    def _only_date(self, number: int, end: int) -> EvidenceSpan:
        match = _DATE.search(self.texts[number], 0, end)
        assert match
        return self._span(number, match)

    # -- units ------------------------------------------------------------------------------------------------

    def row_units(self) -> Iterator[tuple[int, EvidenceSpan]]:
        """(statement, unit): results of one test on one line that have no unit, while another of them has one or the
        line ends with one (8.1 → 7.4 %, a table row with its unit in the last column)."""
        for number in sorted(self.results):
            rows: dict[EvidenceSpan, list[int]] = {}
            for index in self.by_line[number]:
                if self._is_result(index) and Field.VALUE in self.statements[index].fields:
                    rows.setdefault(self.statements[index].name, []).append(index)
            for name, row in rows.items():
                units = [self.statements[i].fields.get(Field.UNIT) for i in row]
                written = next((unit for unit in units if unit), None)
                if written is None and len(row) > 1 and len(rows) == 1:
                    end = max(self.statements[i].fields[Field.VALUE].end for i in row)
                    written = self._unit_behind(number, end)
                if written and len(row) > 1 and written != name:
                    yield from ((i, written) for i, unit in zip(row, units, strict=True) if unit is None)

    def _unit_behind(self, number: int, end: int) -> EvidenceSpan | None:
        """A unit alone between `end` (but for a flag) and the end of the line."""
        line = self.lines[number]
        match = _TAIL_UNIT.fullmatch(self.texts[number], end - line.start)
        if match is None:
            return None
        start, stop = (line.start + place for place in match.span(1))
        return EvidenceSpan(start=start, end=stop, quote=line.text[match.start(1) : match.end(1)])

    # -- days of supply ---------------------------------------------------------------------------------------

    def supplies(self) -> Iterator[tuple[int, EvidenceSpan]]:
        """(statement, days): lists of drugs none of which has days, with a supply in their heading or right below."""
        drugs = [i for i, s in enumerate(self.statements) if s.kind is Kind.PRESCRIPTION]
        numbers = sorted({self.line_of[i] for i in drugs})
        for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
            block = [number for _, number in run]
            members = [i for i in drugs if self.line_of[i] in set(block)]
            if any(Field.DAYS in self.statements[i].fields for i in members):
                continue
            for number in (block[-1] + 1, block[0] - 1):
                if not 0 <= number < len(self.texts) or number in self.by_line or len(self.texts[number]) > 40:
                    continue
                supplies = list(_SUPPLY.finditer(self.texts[number]))
                if len(supplies) == 1:
                    for index in members:
                        yield index, self._span(number, supplies[0])
                    break


def _width(text: str) -> int:
    """Columns that `text` takes on a screen with fixed pitch: two for wide characters (Unicode East Asian Width)."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
