"""A claim through a model: prompt, grammar and generation, and what it advises.

An adapter or a model that carries the key `hyojun.form` was trained on the receipt form and judges a claim by replaying it; any other
model gets a system prompt that explains the form and the claim as the user's message. Both write under the same grammar.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import llguidance

from app.errors import InvalidInput, ModelOutputError, TooLong
from app.generation import receipt_form, registry
from app.generation.chat import Message
from app.generation.form import CLOSE, LINE_OPEN, escape
from app.generation.llama import LlamaCpp
from app.generation.modelfile import read_model_file
from app.generation.remote import RemoteModel
from app.generation.request import Generated
from app.generation.segments import fold
from app.generation.vocabulary import Vocabulary
from schemas.issue import Issue, IssueType, Severity
from schemas.receipt import Advice, Block, Case, Cited, Finding
from schemas.statement import EvidenceSpan

_COMPACT_TOKENS = 1000
"""Replayed tokens of one window for the compact form; the shipped adapter was trained on cases of up to 1,280 in all."""
_CHAT_SHARE = 4


@dataclass
class Advising:
    """What a model advised for a claim. `seconds` of generation."""

    advice: list[Advice] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    prompt_tokens: int = 0
    sampled_tokens: int = 0
    forced_tokens: int = 0
    seconds: float = 0.0
    windows: int = 0


class ReceiptReader:
    """A model and the way it writes the receipt form. Thread-safe: claims that are judged at the same time share a batch.

    `adapter`: the one of the model's adapters that judges receipts. Raises InvalidInput when the model has neither the
    form nor a chat template.
    """

    def __init__(
        self,
        model: LlamaCpp | RemoteModel,
        *,
        adapter: str | None = None,
        prompt: str = registry.RECEIPTS,
        max_seconds: float | None = 600.0,
    ) -> None:
        self.model = model
        self.adapter = adapter
        self.max_seconds = max_seconds
        file = model.memory.adapters[adapter] if adapter is not None and isinstance(model, LlamaCpp) else None
        # A base that was trained on another form is no model for this one: its adapter says what it is for.
        trained = read_model_file(file).text("hyojun.form") if file else model.metadata("hyojun.form")
        if trained is not None and trained != receipt_form.RECEIPT_FORM:
            raise InvalidInput(f"the model writes form {trained}; receipts are judged in {receipt_form.RECEIPT_FORM}")
        self.compact = trained is not None
        self.prompt = "" if self.compact else registry.prompt_text(prompt)
        path = model.fingerprint(adapter) if isinstance(model, RemoteModel) else model.path
        self.fingerprints = registry.fingerprints(path, self.prompt, file, use=registry.RECEIPTS)
        self._vocabulary = Vocabulary(model, compact=self.compact)

    @classmethod
    def of(cls, models: registry.Models) -> "ReceiptReader":
        """The reader that the registry describes. Raises NotFound, Unavailable, InvalidInput."""
        model, adapter = models.use(registry.RECEIPTS)
        prompt = models.registry.get(registry.RECEIPTS).prompt
        return cls(model, adapter=adapter, prompt=prompt or registry.RECEIPTS)

    def advise(self, case: Case, *, everything: bool = False, temperature: float = 0.0, seed: int = 0) -> Advising:
        """What the model advises for the lines of `case`, in their order.

        Lines that neither a finding nor a passage speaks of are not shown to it: nothing could be said of them that
        cites anything; `everything` shows them too. Raises TooLong when one line does not fit the model's context,
        ModelOutputError, Unavailable.
        """
        started = time.monotonic()
        shown = [block for block in case.blocks if everything or block.findings or block.passages]
        advising = Advising()
        waiting = self._windows(case.head, shown)
        while waiting:
            first, last = waiting.pop(0)
            try:
                generated, answers = self._write(case.head, shown[first:last], temperature=temperature, seed=seed)
            except TooLong:
                # Longer answers than a window of this size was planned for: two smaller ones.
                if last - first < 2:
                    raise
                half = (first + last) // 2
                waiting[:0] = [(first, half), (half, last)]
                continue
            advising.windows += 1
            advising.prompt_tokens += generated.prompt_tokens
            advising.sampled_tokens += generated.sampled_tokens
            advising.forced_tokens += generated.forced_tokens
            advising.advice += [_advice(answer, shown[first + answer.block]) for answer in answers]
        advising.seconds = time.monotonic() - started
        if advising.windows > 1:
            text = f"judged in {advising.windows} parts, each without the lines of the others"
            advising.issues.append(Issue(severity=Severity.INFORMATION, code=IssueType.INFORMATIONAL, text=text))
        return advising

    def _write(
        self, head: str, blocks: Sequence[Block], **sampling: Any
    ) -> tuple[Generated, list[receipt_form.Answer]]:
        grammar = receipt_form.build(head, blocks, 0, self._vocabulary.writing)
        spec = llguidance.grammar_from("lark", grammar)
        options: dict[str, Any] = {"adapter": self.adapter, "max_seconds": self.max_seconds} | sampling
        if self.compact:
            generated = self.model.write([self.model.begin_token], spec, **options)
        else:
            rows = [fold(head), *(row for n, block in enumerate(blocks) for row in receipt_form.rows(n, block))]
            messages = (Message("system", self.prompt), Message("user", "\n".join(rows)))
            generated = self.model.write_chat(messages, spec, **options)
        answers, complete = receipt_form.read(generated.text, generated.choices)
        if not complete:
            raise TooLong("the model's answer to the claim was cut off")
        return generated, answers

    def _windows(self, head: str, blocks: Sequence[Block]) -> list[tuple[int, int]]:
        """Half-open ranges of blocks, each small enough for the model."""
        budget = _COMPACT_TOKENS if self.compact else self.model.sequence_tokens // _CHAT_SHARE
        used = self._size([fold(head)])
        sizes = [self._size(receipt_form.rows(number, block)) for number, block in enumerate(blocks)]
        if max(sizes, default=0) > self.model.sequence_tokens // 2:
            raise TooLong(f"one line has {max(sizes)} tokens; the model's context holds {self.model.sequence_tokens}")
        found: list[tuple[int, int]] = []
        first, total = 0, used
        for number, size in enumerate(sizes):
            if number > first and total + size > budget:
                found.append((first, number))
                first, total = number, used
            total += size
        return [*found, (first, len(sizes))] if sizes else []

    def _size(self, rows: Sequence[str]) -> int:
        return sum(self._vocabulary.size(escape(row)) + (2 if self.compact else len(LINE_OPEN + CLOSE)) for row in rows)


def _advice(answer: receipt_form.Answer, block: Block) -> Advice:
    """Raises ModelOutputError for what cites something that is not there, which the grammar does not let through."""
    return Advice(
        line=block.line,
        action=answer.action,
        reason=answer.reason,
        reference=_reference(answer.reference, block.findings),
        evidence=_cited(answer, block),
        comment=answer.comment.strip(),
        probability=answer.probability,
    )


def _reference(written: str, findings: Sequence[Finding]) -> str:
    if not written.startswith("F"):
        return written
    try:
        return findings[int(written[1:]) - 1].row
    except (ValueError, IndexError):
        raise ModelOutputError("an answer cites a finding that its line does not have") from None


def _cited(answer: receipt_form.Answer, block: Block) -> Cited | None:
    if answer.passage is None or answer.quote is None:
        return None
    if not 0 <= answer.passage < len(block.passages):
        raise ModelOutputError("an answer cites a passage that its line does not have")
    passage = block.passages[answer.passage]
    at = fold(passage.quote).find(answer.quote)
    if at < 0:
        raise ModelOutputError("an answer quotes what its passage does not say")
    start, end = passage.start + at, passage.start + at + len(answer.quote)
    quote = passage.quote[at : at + len(answer.quote)]
    return Cited(note_id=passage.note_id, span=EvidenceSpan(start=start, end=end, quote=quote))
