"""A note through a model: prompt, grammar and generation, window by window.

A model file that carries the key `hyojun.form` was trained on the statement form and reads a note by replaying it;
any other model gets a system prompt that explains the form and the note as the user's message, in the chat template
of its GGUF. Both write under the same grammar.
"""

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import llguidance

from app.errors import InvalidInput, TooLong
from app.generation import form, grammar, registry
from app.generation.chat import Message
from app.generation.context import Memory
from app.generation.llama import LlamaCpp
from app.generation.remote import RemoteModel
from app.generation.request import Generated
from app.generation.segments import chunks, fold
from app.generation.vocabulary import Vocabulary
from schemas.issue import Issue, IssueType, Severity
from schemas.note import SourceLine
from schemas.statement import Kind

# Share of the context that replayed lines may take. In synthetic notes statements are a third of all tokens, but a dense
# table brings a multiple of its lines; a chat model also sees the note in its prompt and spells every fragment out.
_COMPACT_LINE_TOKENS = 420
"""Line tokens a window for the compact form; the shipped model was trained on notes of up to 1,280 tokens in all."""
_CHAT_SHARE = 6
_OVERLAP_LINES = 5
"""Lines that a window repeats from the one before, so that headings and table heads stay in view."""
_LONG_LINE = 240
"""A line longer than this many characters is read sentence by sentence."""
_SENTENCE = re.compile(r"[^。]*。+|[^。]+$")
_LONGEST_SENTENCE = 480
"""A sentence longer than this many characters is cut again: it would fill a window by itself."""
_SEPARATOR = re.compile(r"[、，．；;\s](?=[^0-9０-９])")


@dataclass
class Reading:
    """What a model wrote about a note. `lines` are what `Written.line` counts."""

    lines: list[SourceLine]
    written: list[form.Written]
    issues: list[Issue] = field(default_factory=list)
    prompt_tokens: int = 0
    sampled_tokens: int = 0
    forced_tokens: int = 0
    seconds: float = 0.0
    windows: int = 0


@dataclass(frozen=True)
class Window:
    """A stretch of a note, ready for the model. `lines` are those that it replays, `grammar` is Lark. The prompt is
    `tokens` for a model that was trained on the form, and `messages` for any other."""

    lines: tuple[grammar.Line, ...]
    grammar: str
    tokens: tuple[int, ...] = ()
    messages: tuple[Message, ...] = ()

    @property
    def numbers(self) -> list[int]:
        """Numbers of the lines in the note, from 0."""
        return [line.number for line in self.lines]


def source_lines(text: str) -> list[SourceLine]:
    """Lines of `text` without their line ends; long ones are cut behind sentence ends, and very long sentences again."""
    found: list[SourceLine] = []
    at = 0
    for line in text.split("\n"):
        body = line.rstrip("\r")
        if len(body) <= _LONG_LINE:
            found.append(SourceLine(start=at, text=body))
        else:
            for match in _SENTENCE.finditer(body):
                for start, end in _sentence_parts(match[0]):
                    found.append(SourceLine(start=at + match.start() + start, text=match[0][start:end]))
        at += len(line) + 1
    return found


def _sentence_parts(sentence: str) -> Iterator[tuple[int, int]]:
    """`sentence` as it is; a very long one is cut behind a separator, or between two chunks where there is none."""
    start = 0
    while len(sentence) - start > _LONGEST_SENTENCE:
        part = sentence[start : start + _LONGEST_SENTENCE]
        cut = max((m.end() for m in _SEPARATOR.finditer(part)), default=0)
        if cut < _LONGEST_SENTENCE // 2:
            # The last chunk may go on behind the part.
            cut = chunks(part)[-1][0] or len(part)
        yield start, start + cut
        start += cut
    yield start, len(sentence)


class NoteReader:
    """A model and the way it writes the statement form. Thread-safe: notes that are read at the same time share a batch.

    `adapter`: the one of the model's adapters that reads notes. `prompt`: the file of `prompts/` that a chat model is
    given, without its ending. Raises Unavailable when the model cannot be opened, InvalidInput when it has neither the
    form nor a chat template.
    """

    def __init__(
        self,
        model: LlamaCpp | RemoteModel,
        *,
        adapter: str | None = None,
        prompt: str = registry.READING,
        max_seconds: float | None = 600.0,
    ) -> None:
        self.model = model
        self.adapter = adapter
        self.max_seconds = max_seconds
        trained_form = model.metadata("hyojun.form")
        if trained_form is not None and trained_form != form.FORM_VERSION:
            raise InvalidInput(f"the model writes form {trained_form}; this version reads {form.FORM_VERSION}")
        self.compact = trained_form is not None
        self.prompt = "" if self.compact else registry.prompt_text(prompt)
        if isinstance(model, RemoteModel):
            self.fingerprints = registry.fingerprints(model.fingerprint(adapter), self.prompt)
        else:
            file = model.memory.adapters[adapter] if adapter is not None else None
            self.fingerprints = registry.fingerprints(model.path, self.prompt, file)
        self._vocabulary = Vocabulary(model, compact=self.compact)
        self.writing = self._vocabulary.writing

    @classmethod
    def of(cls, models: registry.Models) -> "NoteReader":
        """The reader that the registry describes. Raises NotFound, Unavailable, InvalidInput."""
        model, adapter = models.use(registry.READING)
        prompt = models.registry.get(registry.READING).prompt
        return cls(model, adapter=adapter, prompt=prompt or registry.READING)

    @classmethod
    def open(cls, path: Path, memory: Memory) -> "NoteReader":
        return cls(LlamaCpp(Path(path), memory))

    def read(
        self,
        text: str,
        mentions: Sequence[tuple[int, int, Kind]],
        document_type: str,
        *,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Reading:
        """Statements of `text` as the model writes them.

        `mentions`: dictionary mentions as code-point offsets into `text`, in order, without overlaps.
        Raises TooLong when a single line cannot fit the model's context.
        """
        started = time.monotonic()
        lines = source_lines(text)
        reading = Reading(lines, [])
        done = 0  # first line whose statements are still wanted
        waiting = self._windows(lines)
        while waiting:
            first, last = waiting.pop(0)
            try:
                generated, written = self._window(lines, first, last, mentions, document_type, temperature, seed)
            except TooLong:
                # More statements than a window of this size was planned for: two smaller ones.
                if last - first < 2:
                    raise
                half = (first + last) // 2
                waiting[:0] = [(first, half), (half, last)]
                continue
            reading.windows += 1
            reading.prompt_tokens += generated.prompt_tokens
            reading.sampled_tokens += generated.sampled_tokens
            reading.forced_tokens += generated.forced_tokens
            reading.written += [w for w in written if w.line >= done]
            done = last
        reading.seconds = time.monotonic() - started
        if reading.windows > 1:
            text_of_issue = f"read in {reading.windows} overlapping parts"
            reading.issues.append(Issue(severity=Severity.INFORMATION, code=IssueType.INFORMATIONAL, text=text_of_issue))
        return reading

    def windows(self, text: str, mentions: Sequence[tuple[int, int, Kind]], document_type: str) -> list[Window]:
        """What `read` asks the model for, before any answer. Arguments and TooLong as for `read`."""
        lines = source_lines(text)
        return [self._prepare(lines, first, last, mentions, document_type) for first, last in self._windows(lines)]

    # -- one window -------------------------------------------------------------------------------------------

    def _window(
        self,
        lines: list[SourceLine],
        first: int,
        last: int,
        mentions: Sequence[tuple[int, int, Kind]],
        document_type: str,
        temperature: float,
        seed: int,
    ) -> tuple[Generated, list[form.Written]]:
        window = self._prepare(lines, first, last, mentions, document_type)
        spec = llguidance.grammar_from("lark", window.grammar)
        options: dict[str, Any] = {
            "adapter": self.adapter,
            "temperature": temperature,
            "seed": seed,
            "max_seconds": self.max_seconds,
        }
        if self.compact:
            generated = self.model.write(list(window.tokens), spec, **options)
        else:
            generated = self.model.write_chat(window.messages, spec, **options)
        written, complete = form.read(generated.text, window.numbers, generated.choices)
        if not complete:
            raise TooLong("the model's output was cut off")
        return generated, written

    def _prepare(
        self,
        lines: list[SourceLine],
        first: int,
        last: int,
        mentions: Sequence[tuple[int, int, Kind]],
        document_type: str,
    ) -> Window:
        planned = [self._plan(number, lines[number], mentions) for number in range(first, last)]
        planned = [line for line in planned if line.text.strip()]
        source = grammar.build(planned, self.writing)
        if self.compact:
            known = document_type if document_type in form.DOCUMENT_TYPES else "progress"
            tokens = (self.model.begin_token, self._vocabulary.fragment(form.document_open(known)))
            return Window(tuple(planned), source, tokens=tokens)
        # Folded like the lines that the grammar replays: it knows numbers and signs by their ASCII forms.
        text = "\n".join(fold(lines[number].text) for number in range(first, last))
        return Window(tuple(planned), source, messages=(Message("system", self.prompt), Message("user", text)))

    def _plan(self, number: int, line: SourceLine, mentions: Sequence[tuple[int, int, Kind]]) -> grammar.Line:
        end = line.start + len(line.text)
        inside = [(s - line.start, e - line.start, k) for s, e, k in mentions if s >= line.start and e <= end]
        return grammar.Line(number, fold(line.text), tuple(inside))

    def _windows(self, lines: list[SourceLine]) -> list[tuple[int, int]]:
        """Half-open ranges of lines, overlapping by a few lines, each small enough for the model."""
        budget = _COMPACT_LINE_TOKENS if self.compact else self.model.sequence_tokens // _CHAT_SHARE
        sizes = [self._vocabulary.size(form.escape(fold(line.text))) + 4 if line.text.strip() else 0 for line in lines]
        if max(sizes, default=0) * 4 > self.model.sequence_tokens:
            raise TooLong(f"one line has {max(sizes)} tokens; the model's context holds {self.model.sequence_tokens}")
        found: list[tuple[int, int]] = []
        first = 0
        while True:
            last, used = first, 0
            while last < len(lines) and (last == first or used + sizes[last] <= budget):
                used += sizes[last]
                last += 1
            last = self._border(lines, first, last)
            found.append((first, last))
            if last >= len(lines):
                return found
            first = max(first + 1, last - _OVERLAP_LINES)
            # The repeated lines may not eat the whole budget of the next window.
            while first < last and sum(sizes[first : last + 1]) > budget:
                first += 1

    @staticmethod
    def _border(lines: list[SourceLine], first: int, last: int) -> int:
        """The end of a window, moved back to a blank line when one stands in its last third."""
        if last >= len(lines):
            return last
        for candidate in range(last, first + max(2, (last - first) * 2 // 3), -1):
            if not lines[candidate - 1].text.strip():
                return candidate
        return last
