"""What a conversion gives to be stored: as the converter hands it over, as JSON and back, and its fingerprint.

The fingerprint covers what is stored of the note: statements with what was computed from them, resources, messages,
issues. It leaves out what no repetition gives again: seconds and token counts of the run. Its bytes are JSON with
sorted keys and no white space, numbers with the digits that the database keeps.
"""

import hashlib
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

import orjson

from schemas.coding import Candidate
from schemas.issue import Issue
from schemas.record import Record
from schemas.statement import Statement


class Message(Protocol):
    """An SS-MIX2 message as `Conversion.messages` holds it."""

    @property
    def kind(self) -> str: ...
    @property
    def order_no(self) -> str: ...
    @property
    def care_date(self) -> date | None: ...
    @property
    def department(self) -> str: ...
    @property
    def text(self) -> str: ...


class Conversion(Protocol):
    """What the converter makes of one note. `run`: the columns of `models.Run`, its id included (resources name it),
    but not those of the note and the job. `held`: (type, id) of resources that a check found an error in. `candidates`:
    by the statement's position, what came near its name where no table has it, best first. `records`: what was computed
    from the statements, in their order."""

    @property
    def run(self) -> dict[str, Any]: ...
    @property
    def statements(self) -> Sequence[Statement]: ...
    @property
    def records(self) -> Sequence[Record]: ...
    @property
    def resources(self) -> Sequence[dict[str, Any]]: ...
    @property
    def held(self) -> Set[tuple[str, str]]: ...
    @property
    def candidates(self) -> Mapping[int, Sequence[Candidate]]: ...

    @property
    def messages(self) -> Sequence[Message]: ...
    @property
    def issues(self) -> Sequence[Issue]: ...


@dataclass(frozen=True)
class KeptMessage:
    kind: str
    order_no: str
    care_date: date | None
    department: str
    text: str


@dataclass(frozen=True)
class KeptConversion:
    """A `Conversion` that was kept as JSON."""

    run: dict[str, Any]
    statements: list[Statement]
    records: list[Record]
    resources: list[dict[str, Any]]
    held: frozenset[tuple[str, str]]
    candidates: dict[int, list[Candidate]]
    messages: list[KeptMessage]
    issues: list[Issue]


def output_of(conversion: Conversion) -> dict[str, Any]:
    """What is stored of it, as JSON values; `record` of a statement without the statement and the candidates, None
    where there is none."""
    computed = [record.model_dump(mode="json", exclude={"statement", "candidates"}) for record in conversion.records]
    return {
        "statements": [
            {
                "payload": statement.model_dump(mode="json"),
                "record": computed[n] if n < len(computed) else None,
                "candidates": [near.model_dump(mode="json") for near in conversion.candidates.get(n, ())],
            }
            for n, statement in enumerate(conversion.statements)
        ],
        "resources": [
            {"content": content, "valid": (content["resourceType"], content["id"]) not in conversion.held}
            for content in conversion.resources
        ],
        "messages": [
            {
                "kind": message.kind,
                "order_no": message.order_no,
                "care_date": message.care_date.isoformat() if message.care_date else None,
                "department": message.department,
                "text": message.text,
            }
            for message in conversion.messages
        ],
        "issues": [issue.model_dump(mode="json") for issue in conversion.issues],
    }


def fingerprint(output: Mapping[str, Any]) -> str:
    """SHA-256, hexadecimal, of an output as `output_of` gives it, or as it was read back from the database."""
    return hashlib.sha256(orjson.dumps(_plain(output), option=orjson.OPT_SORT_KEYS)).hexdigest()


def _plain(value: Any) -> Any:
    """A JSON value in which each number is its digits, as the database writes them: it does not tell 5 from Decimal
    5."""
    if isinstance(value, float):
        value = Decimal(repr(value))
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return {"#": format(value, "f" if isinstance(value, Decimal) else "d")}
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value


def kept(conversion: Conversion) -> dict[str, Any]:
    """The whole conversion as JSON values, its run included, for `conversion_of`."""
    return {"run": {key: _told(value) for key, value in conversion.run.items()}, "output": output_of(conversion)}


def conversion_of(stored: Mapping[str, Any]) -> KeptConversion:
    """The inverse of `kept`."""
    run, output = dict(stored["run"]), stored["output"]
    run["started_at"] = datetime.fromisoformat(run["started_at"])
    rows = output["statements"]
    statements = [Statement.model_validate(row["payload"]) for row in rows]
    candidates = {n: [Candidate.model_validate(near) for near in row["candidates"]] for n, row in enumerate(rows)}
    resources = [row["content"] for row in output["resources"]]
    return KeptConversion(
        run=run,
        statements=statements,
        records=[
            record_of(row["payload"], row["record"], row["candidates"]) for row in rows if row["record"] is not None
        ],
        resources=resources,
        held=frozenset(
            (row["content"]["resourceType"], row["content"]["id"]) for row in output["resources"] if not row["valid"]
        ),
        candidates={n: near for n, near in candidates.items() if near},
        messages=[
            KeptMessage(
                row["kind"], row["order_no"], date.fromisoformat(row["care_date"]) if row["care_date"] else None,
                row["department"], row["text"],
            )
            for row in output["messages"]
        ],
        issues=[Issue.model_validate(row) for row in output["issues"]],
    )  # fmt: skip


def record_of(payload: Mapping[str, Any], record: Mapping[str, Any], candidates: Sequence[Any]) -> Record:
    """A record out of the parts that are stored of it."""
    return Record.model_validate({**record, "statement": payload, "candidates": candidates})


def _told(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value
