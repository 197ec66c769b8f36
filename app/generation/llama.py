"""An Outlines model for llama.cpp that really batches: many generations share one model, each under its own grammar.

`write` is the product's face, `generate`, `generate_batch` and `generate_stream` are Outlines'; all of them may be called
from many threads at once, and what is under way at the same time is decoded together (`batching`).
"""

from collections.abc import Iterator, Sequence
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

from outlines.models.base import Model, ModelTypeAdapter
from outlines.types import CFG

from app.errors import InvalidInput
from app.generation.batching import Engine
from app.generation.chat import ChatTemplate, Message, Prompt
from app.generation.context import LlamaContext, Memory, lane_slots
from app.generation.request import Generated, Metrics, Pending, Request
from app.generation.structured import lark_grammar, lark_source


class GrammarAdapter(ModelTypeAdapter):
    """Prompts are text or token ids; the only output type is `outlines.types.CFG` in llguidance's Lark dialect."""

    def format_input(self, model_input: Any) -> Any:
        if isinstance(model_input, str) or all(isinstance(i, int) for i in model_input):
            return model_input
        raise TypeError("a prompt is a string or a list of token ids")

    def format_output_type(self, output_type: Any = None) -> str:
        return lark_grammar(lark_source(output_type))


class LlamaCpp(Model):
    """A GGUF file opened by llama.cpp as `memory` says. Thread-safe.

    Raises Unavailable when the file cannot be opened, InvalidInput when a setting cannot be had.
    """

    tensor_library_name = "numpy"

    def __init__(self, path: Path, memory: Memory | None = None) -> None:
        self.path = path
        self.memory = memory or Memory()
        self.type_adapter = GrammarAdapter()
        slots = lane_slots(self.memory, path.stat().st_size if path.is_file() else 0)
        lanes = [self.memory.share(number, len(slots)) for number in slots]
        self._context = LlamaContext(path, lanes[0])
        self._beside: list[LlamaContext] = []
        try:
            self._beside += [self._context.beside(lane) for lane in lanes[1:]]
            first = Engine(self._context, slots[0])
        except BaseException:
            self._close_contexts()
            raise
        others = zip(self._beside, slots[1:], strict=True)
        self._engines = [first, *(Engine(context, number, first) for context, number in others)]
        self.begin_token = self._context.begin_token
        self.begin_text = self.piece(self.begin_token).decode("utf-8", "replace") if self.begin_token >= 0 else ""
        self.vocabulary_size = self._context.vocabulary_size
        self.sequence_tokens = self._context.sequence_tokens
        """Longest prompt and output of one generation together."""
        source = self.metadata("tokenizer.chat_template")
        self._chat = ChatTemplate(source, self) if source else None

    def close(self) -> None:
        """Ends what runs and gives the memory back; the model cannot be used afterwards."""
        for engine in self._engines:
            engine.close()
        self._close_contexts()

    def _close_contexts(self) -> None:
        for context in [*self._beside, self._context]:
            context.close()

    def metadata(self, key: str) -> str | None:
        """The GGUF value of `key` as text, or None."""
        return self._context.metadata(key)

    @property
    def slots(self) -> int:
        """Generations at the same time; more wait."""
        return self.memory.slots

    @property
    def chats(self) -> bool:
        """Does the file carry a chat template?"""
        return self._chat is not None

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of `text` without a begin mark; `special`: reserved tokens written in the text are recognised."""
        return self._context.tokenize(text, special=special)

    def piece(self, token: int) -> bytes:
        """The bytes that `token` writes, reserved tokens included."""
        return self._context.piece(token)

    def metrics(self) -> Metrics:
        """What the engine did since the model was opened, and what it holds now."""
        return reduce(add, (engine.metrics() for engine in self._engines))

    # -- generation -------------------------------------------------------------------------------------------

    def write(self, prompt: str | Sequence[int], grammar: str | None, **options: Any) -> Generated:
        """Generates until the grammar ends, and waits for it. Options and errors as for `submit`, and those of
        `Pending.result`."""
        return self.submit(prompt, grammar, **options).result()

    def submit(self, prompt: str | Sequence[int], grammar: str | None = None, **options: Any) -> Pending:
        """Starts a generation. `grammar`: serialized by `llguidance.grammar_from`; None: free text.

        Options are the fields of `batching.Request`. Raises InvalidInput, TooLong, Unavailable.
        """
        tokens = self.tokenize(prompt, special=True) if isinstance(prompt, str) else prompt
        request = Request(tuple(tokens), grammar, **options)
        return min(self._engines, key=lambda engine: engine.busy / engine.slots).submit(request)

    def write_chat(self, messages: Sequence[Message], grammar: str | None, **options: Any) -> Generated:
        """The answer to `messages`; those before the last are shared. Options and errors as for `write`; InvalidInput
        for a model without a chat template."""
        prompt = self.chat_prompt(messages)
        return self.write(prompt.tokens, grammar, shared=prompt.shared, **options)

    def chat_prompt(self, messages: Sequence[Message]) -> Prompt:
        """`messages` in the model's own template. Raises InvalidInput."""
        if self._chat is None:
            raise InvalidInput("the model file carries no chat template")
        return self._chat.prompt(messages)

    def generate(self, model_input: str | Sequence[int], output_type: CFG | None = None, **options: Any) -> str:
        """Outlines' face: the text alone. Options as for `write`."""
        return self.write(model_input, self.type_adapter.format_output_type(output_type), **options).text

    def generate_batch(self, model_input: Any, output_type: Any = None, **options: Any) -> list[str]:
        """All of them together, the texts in their order; `output_type` one for all or one each."""
        types = output_type if isinstance(output_type, list) else [output_type] * len(model_input)
        pending = [
            self.submit(one, self.type_adapter.format_output_type(type_), **options)
            for one, type_ in zip(model_input, types, strict=True)
        ]
        return [one.result().text for one in pending]

    def generate_stream(self, model_input: Any, output_type: Any = None, **options: Any) -> Iterator[str]:
        """The text as it is written. A reader that stops early ends the generation."""
        pending = self.submit(model_input, self.type_adapter.format_output_type(output_type), **options)
        try:
            yield from pending
        finally:
            pending.cancel()
