"""A text that another program of the hospital asks the model for: how it is to be written, and what it cost."""

from typing import Any, Literal

from schemas.value import Value

Finish = Literal["stop", "length"]
"""stop: the model, its grammar or a stop string ended the text; length: a limit did."""


class CompletionOptions(Value):
    """`max_tokens` None: as much as the context holds. `temperature` 0 is greedy. The text ends before the first of
    `stop`. At most one of `json_schema` (a JSON Schema) and `grammar` (llguidance's Lark) says what the text must obey.
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    json_schema: dict[str, Any] | None = None
    grammar: str | None = None


class Usage(Value):
    """`forced_tokens`: those of `completion_tokens` that a grammar left no choice about; None where a stop string ended
    the text, since the engine then no longer says. `seconds`: from the request to its end, waiting included."""

    prompt_tokens: int
    completion_tokens: int
    forced_tokens: int | None
    seconds: float
