"""The path of one claim: checks from tables -> the chart beside its lines -> a model's advice. No database, no network."""

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from app import __version__
from app.errors import InvalidInput, NotFound
from app.generation.endpoint import ServerOptions
from app.generation.endpoint import configured as model_server
from app.generation.receipt_reader import Advising, ReceiptReader
from app.generation.registry import ModelOptions, Models, configured
from app.generation.remote import RemoteModel
from app.receipts.chart import Entry, case
from app.receipts.check import check
from app.receipts.tables import Tables
from app.receipts.uke import Claim
from schemas.issue import Issue, IssueType, Severity
from schemas.receipt import Advice, Advised, Case, Finding

log = logging.getLogger(__name__)


class Options(ModelOptions, ServerOptions, Protocol):
    """What a checker needs to know of an installation; `app.settings.Settings` has it."""


@dataclass(frozen=True)
class Checked:
    """Everything that came out of one claim. `advice`: in the order of the lines; empty when no model was asked. `run`:
    what the advice was made with (as a note's run), or the tables alone."""

    findings: list[Finding]
    case: Case
    advice: list[Advice]
    run: dict[str, Any]
    issues: list[Issue] = field(default_factory=list)

    @property
    def needing(self) -> set[int]:
        """Lines that need correction or confirmation: those that the model says so of; where none was asked, those of
        the findings."""
        if "model" not in self.run:
            return {finding.line for finding in self.findings}
        return {advice.line for advice in self.advice if advice.action is not Advised.NO_CHANGE}


class ReceiptChecker:
    """The checks, and the model that judges after them where there is one. Thread-safe: what several threads check at the
    same time, the model generates together.

    `reason`: why there is no reader; every checked claim then says so.
    """

    def __init__(self, reader: ReceiptReader | None, models: Models | None = None, reason: str | None = None) -> None:
        self.reader = reader
        self.models = models
        self._reason = reason

    @classmethod
    def of(cls, models: Models) -> "ReceiptChecker":
        """The checker on models that are open for notes too: one base in memory. Without a use case for receipts, or with
        one that cannot be opened, it checks from tables alone. Raises Unavailable."""
        try:
            return cls(ReceiptReader.of(models), models)
        except NotFound:
            return cls(None, models, "no model is configured for receipts (models.toml has no use case uc2)")
        except InvalidInput as error:
            log.error("receipts are checked from tables alone: %s", error)
            return cls(None, models, "the model for receipts cannot be used; `hyojun models check` says why")

    @classmethod
    def load(cls, options: Options) -> "ReceiptChecker":
        """Opens the model that the installation has for receipts, or asks the server it names. Raises Unavailable,
        InvalidInput."""
        if endpoint := model_server(options):
            return cls(ReceiptReader(RemoteModel(endpoint), max_seconds=endpoint.max_seconds))
        return cls.of(Models(configured(options), options))

    def check(self, claim: Claim, tables: Tables, entries: Sequence[Entry] = ()) -> Checked:
        """One claim with the notes of its patient. Raises TooLong, ModelOutputError, Unavailable."""
        started = datetime.now(UTC)
        findings = check(claim, tables)
        put = case(claim, findings, tables, entries)
        run: dict[str, Any] = {
            "id": str(uuid.uuid4()), "version": __version__, "tables": tables.version, "started_at": started.isoformat(),
            "notes": [entry.note_id for entry in entries],
        }  # fmt: skip
        issues = [] if entries else [_told("no note of this patient and month: the claim was compared with no chart")]
        if self.reader is None:
            return Checked(findings, put, [], run, [*issues, *([_told(self._reason)] if self._reason else [])])
        advising = self.reader.advise(put)
        run |= self.reader.fingerprints.as_dict() | {
            "seed": 0,
            "prompt_tokens": advising.prompt_tokens + advising.forced_tokens,
            "output_tokens": advising.sampled_tokens,
            "duration_ms": round(advising.seconds * 1000),
        }
        return Checked(findings, put, _consistent(advising), run, [*issues, *advising.issues])

    def close(self) -> None:
        """Gives the model's memory back, where this checker opened it."""
        if self.models is not None:
            self.models.close()


def _consistent(advising: Advising) -> list[Advice]:
    """What a line gets: `no_change` beside a correction of the same finding says nothing, and the same advice twice once."""
    found: list[Advice] = []
    for advice in advising.advice:
        if not any((a.line, a.action, a.reference) == (advice.line, advice.action, advice.reference) for a in found):
            found.append(advice)
    corrected = {(a.line, a.reference) for a in found if a.action is not Advised.NO_CHANGE}
    return [a for a in found if a.action is not Advised.NO_CHANGE or (a.line, a.reference) not in corrected]



def _told(text: str) -> Issue:
    return Issue(severity=Severity.INFORMATION, code=IssueType.INFORMATIONAL, text=text)
