"""The same messages and the same grammar through a served model: llama-server, vLLM or another Hyojun.

For hospitals whose GPU serves several applications. All three speak OpenAI's `POST /v1/chat/completions`; they differ in
how a grammar is given to them, which is the work of Outlines' type adapters:

- vllm: `structured_outputs.grammar`, from version 0.12 on (Outlines' own adapter). Its guidance backend must be on
  (`--structured-outputs-config.backend guidance`), since the others do not know llguidance's grammars.
- llama-server: `grammar`, beginning with `%llguidance`, in a build with `-DLLAMA_LLGUIDANCE=ON` (docs/llguidance.md of
  llama.cpp).
- hyojun: `grammar` in the same words.

A server that does not know a field drops it in silence, so each answer is put through the grammar again, as it comes,
and one that breaks it is not believed.

Answers are always streamed: proxies with a time limit stay content, and a server notices at once that nobody listens any
more.
"""

import hashlib
import json
import logging
import random
import threading
import time
import uuid
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import llguidance
from outlines.inputs import Chat
from outlines.models.base import Model, ModelTypeAdapter
from outlines.models.vllm import VLLMTypeAdapter
from outlines.types import CFG

from app.errors import HyojunError, InvalidInput, ModelOutputError, TooLong, Unavailable
from app.generation.chat import Message
from app.generation.circuit import Circuit
from app.generation.endpoint import STRANGE, Address, Call, Endpoint, Failed, ServerKind, refusal
from app.generation.request import Generated
from app.generation.structured import byte_tokenizer, lark_grammar, lark_source, matcher

log = logging.getLogger(__name__)

_HEADER = "%llguidance {}\n"
"""First line of a grammar in llguidance's dialect: llama-server goes by it, and vLLM cannot take it for GBNF."""
_NEUTRAL: dict[ServerKind, dict[str, float]] = {
    # Servers have samplers of their own on by default (llama-server), or those of the model's generation_config.json
    # (vLLM; Qwen2.5 brings a repetition penalty, which changes even a greedy answer).
    "vllm": {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0},
    "llama-server": {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0},
    "hyojun": {},
}
_SEED_BITS = 0x7FFFFFFF
"""llama-server holds seeds in 32 bits, and takes the highest one for "any"."""


class LarkAdapter(VLLMTypeAdapter):
    """For servers that take a Lark grammar as `grammar`; messages as for vLLM."""

    def format_output_type(self, output_type: Any = None) -> dict[str, Any]:
        if output_type is None:
            return {}
        return {"grammar": lark_source(output_type)}


class RemoteModel(Model):
    """A model behind `endpoint`. Thread-safe; nothing is sent before the first generation.

    Raises InvalidInput for an endpoint that cannot be one.
    """

    chats = True

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.sequence_tokens = endpoint.sequence_tokens
        """Longest prompt and output of one generation together."""
        self.slots = endpoint.slots
        """Generations that the endpoint is meant to take at the same time; more are sent when more are asked for."""
        self.type_adapter: ModelTypeAdapter = VLLMTypeAdapter() if endpoint.kind == "vllm" else LarkAdapter()
        self._address = Address.of(endpoint)
        self._circuit = Circuit("the model server", endpoint.circuit_failures, endpoint.circuit_pause_seconds)
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._calls: set[Call] = set()

    def close(self) -> None:
        """Breaks off what runs, with Unavailable; the model cannot be used afterwards."""
        with self._lock:
            self._closed.set()
            for call in self._calls:
                call.break_off()

    def metadata(self, key: str) -> str | None:
        """Nothing: a server does not show its model file."""
        return None

    def fingerprint(self, adapter: str | None = None) -> str:
        """16 hex digits over the kind and address of the server and the name of the model or `adapter`, without the
        key. It does not change when somebody serves another model under the same name."""
        named = "\n".join([self.endpoint.kind, self._address.text, adapter or self.endpoint.model])
        return hashlib.sha256(named.encode()).hexdigest()[:16]

    @staticmethod
    def count(text: str) -> int:
        """An upper estimate of the tokens of `text`: one for an ASCII character, one and a half for any other.

        Measured on the lines of the sample notes: the vocabularies of Qwen2 and Llama 3 take 0.85 and 0.82 tokens a
        character and on no line more than this; Gemma 4's takes 0.90, and more than this on some short lines. A part
        that is longer after all is refused with TooLong, like one that a model of this process cannot hold.
        """
        return len(text) + (sum(not char.isascii() for char in text) + 1) // 2

    # -- generation -------------------------------------------------------------------------------------------

    def write_chat(
        self,
        messages: Sequence[Message],
        grammar: str | None,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        max_seconds: float | None = None,
        max_tokens: int | None = None,
        adapter: str | None = None,
    ) -> Generated:
        """The answer to `messages`, complete under `grammar` (as `llguidance.grammar_from("lark", …)` gives it).

        `adapter`: the name under which vLLM or Hyojun serves the base model with it. `max_tokens`: the answer is cut
        off there (`Generated.finish` says so). Of `Generated`, `choices` stays empty, since servers give probabilities
        among all tokens and not among the allowed ones, and forced tokens count as sampled unless the server tells.

        Raises InvalidInput when this side or the server refuses the grammar, TooLong when prompt and answer do not fit
        the server's context, ModelOutputError when the answer breaks the grammar, Unavailable for anything else:
        server away, circuit open, time over, model closed.
        """
        chat = Chat([message._asdict() for message in messages])
        return self._whole(chat, grammar, _Options(temperature, seed, max_seconds, max_tokens, adapter))

    def generate(self, model_input: Chat | str | list[Any], output_type: CFG | None = None, **options: Any) -> str:
        """Outlines' face: the text alone. Options and errors as for `write_chat`."""
        return self._whole(model_input, _definition(output_type), _Options(**options)).text

    def generate_batch(self, model_input: Any, output_type: Any = None, **options: Any) -> list[str]:
        """All of them, `slots` at a time, the texts in their order; `output_type` one for all or one each."""
        types = output_type if isinstance(output_type, list) else [output_type] * len(model_input)
        pairs = list(zip(model_input, types, strict=True))
        with ThreadPoolExecutor(max_workers=self.slots, thread_name_prefix="remote") as threads:
            return list(threads.map(lambda pair: self.generate(pair[0], pair[1], **options), pairs))

    def generate_stream(
        self, model_input: Chat | str | list[Any], output_type: CFG | None = None, **options: Any
    ) -> Iterator[str]:
        """The text as it comes, each piece checked against the grammar before it is handed out. Not tried again once
        text was handed out. A reader that stops early ends the generation."""
        yield from self._generate(model_input, _definition(output_type), _Options(**options), restarts=False)

    def _whole(self, model_input: Any, grammar: str | None, options: "_Options") -> Generated:
        pieces = self._generate(model_input, grammar, options, restarts=True)
        while True:
            try:
                next(pieces)
            except StopIteration as end:
                generated: Generated = end.value
                return generated

    def _generate(
        self, model_input: Any, grammar: str | None, options: "_Options", *, restarts: bool
    ) -> Generator[str, None, Generated]:
        """Pieces of text, those of all tries; what it returns holds the text of the last one alone."""
        started = time.monotonic()
        limit = self.endpoint.max_seconds if options.max_seconds is None else options.max_seconds
        deadline = started + limit
        body = self._body(model_input, grammar, options)
        key = str(uuid.uuid4())  # one for all tries, so that a server that remembers does the work once
        handed_out = False
        for attempt in range(1, self.endpoint.tries + 1):
            answer = _Answer(matcher(byte_tokenizer(), grammar) if grammar is not None else None, started)
            if time.monotonic() >= deadline:
                raise Unavailable(f"the model took longer than {limit:g} s")
            try:
                with closing(self._try(body, key, deadline, limit, answer)) as pieces:
                    for piece in pieces:
                        handed_out = True
                        yield piece
                return answer.generated(options.max_tokens)
            except Failed as failed:
                reason, again, wait = failed.reason, failed.again, failed.wait
            if wait is None:
                wait = self.endpoint.first_pause_seconds * 2 ** (attempt - 1) * random.uniform(0.5, 1.0)
                wait = min(wait, self.endpoint.longest_pause_seconds)
            last = attempt == self.endpoint.tries or wait > self.endpoint.longest_pause_seconds
            if not again or last or (handed_out and not restarts) or time.monotonic() + wait >= deadline:
                raise Unavailable(f"the model server {reason}")
            log.warning("the model server %s; try %d of %d in %.1f s", reason, attempt + 1, self.endpoint.tries, wait)
            if self._closed.wait(wait):
                raise Unavailable("the model is closed")
        raise AssertionError("the last try returns or raises")

    def _body(self, model_input: Any, grammar: str | None, options: "_Options") -> bytes:
        kind = self.endpoint.kind
        if options.adapter is not None and kind == "llama-server":
            raise InvalidInput("llama-server has no adapters by name; serve the model with the adapter merged")
        body: dict[str, Any] = {
            "model": options.adapter or self.endpoint.model,
            "messages": self.type_adapter.format_input(model_input),
            "temperature": options.temperature,
            "seed": options.seed & _SEED_BITS,
            "stream": True,
            "stream_options": {"include_usage": True},
            **_NEUTRAL[kind],
        }
        if options.max_tokens is not None:
            body["max_tokens"] = options.max_tokens
        if grammar is not None:
            if grammar.lstrip().startswith("{"):
                raise InvalidInput("a served model takes a Lark grammar")
            lark = grammar if grammar.lstrip().startswith("%llguidance") else _HEADER + grammar
            body |= self.type_adapter.format_output_type(CFG(lark))
        # Half as long as with escapes. A lone surrogate is no character that a server could be sent.
        return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")

    def _try(self, body: bytes, key: str, deadline: float, limit: float, answer: "_Answer") -> Generator[str, None, None]:
        """One request. Raises Failed, and the errors of `write_chat`."""
        probe = self._circuit.enter()
        up: bool | None = None
        try:
            with closing(Call(self._address, deadline)) as call, self._listed(call):
                for event in call.events(body, key, self.endpoint.key):
                    yield from answer.take(event)
            up = True
            yield from answer.end()
        except GeneratorExit:
            raise  # nobody listens any more, which tells nothing of the server
        except Failed as failed:
            up = not failed.fault
            if self._closed.is_set():
                raise Unavailable("the model is closed") from None
            raise
        except TimeoutError:
            up = False
            raise Unavailable(f"the model took longer than {limit:g} s") from None
        except HyojunError:
            up = True
            raise
        finally:
            self._circuit.leave(probe, None if self._closed.is_set() else up)

    @contextmanager
    def _listed(self, call: Call) -> Iterator[None]:
        """`close` knows of `call` for as long as it runs."""
        with self._lock:
            if self._closed.is_set():
                raise Unavailable("the model is closed")
            self._calls.add(call)
        try:
            yield
        finally:
            with self._lock:
                self._calls.discard(call)


def _definition(output_type: Any) -> str | None:
    return None if output_type is None else lark_grammar(lark_source(output_type))


@dataclass(frozen=True)
class _Options:
    temperature: float = 0.0
    seed: int = 0
    max_seconds: float | None = None
    max_tokens: int | None = None
    adapter: str | None = None


class _Answer:
    """The text of one try and its place in the grammar."""

    def __init__(self, matcher: llguidance.LLMatcher | None, started: float) -> None:
        self._matcher = matcher
        self._started = started
        self._first: float | None = None
        self._text: list[str] = []
        self._half = ""  # stands for the bytes of a character that may have been cut in half
        self._finish: str | None = None
        self._usage: dict[str, Any] = {}
        self._forced = 0

    def take(self, event: dict[str, Any]) -> Iterator[str]:
        """The text of `event`, if it keeps to the grammar. Raises ModelOutputError, and what `event` reports."""
        if "error" in event:
            raise refusal(None, event)
        if isinstance(usage := event.get("usage"), dict):
            self._usage = usage
        if isinstance(more := event.get("hyojun"), dict) and isinstance(more.get("forced_tokens"), int):
            self._forced = more["forced_tokens"]
        choices = event.get("choices")
        if not isinstance(choices, list) or not choices:
            return  # the event with the usage has none
        choice = choices[0] if isinstance(choices[0], dict) else {}
        said = choice.get("delta") or choice.get("message")
        text = said.get("content") if isinstance(said, dict) else None
        if text is not None and not isinstance(text, str):
            raise Failed(STRANGE, again=False, fault=False)
        self._finish = choice.get("finish_reason") or self._finish
        text = self._half + (text or "")
        whole = text.rstrip("\ufffd")
        self._half = text[len(whole) :]
        yield from self._accept(whole)

    def _accept(self, text: str) -> Iterator[str]:
        if not text:
            return
        written = text.encode("utf-8", "replace")
        if self._matcher is not None and self._matcher.try_consume_tokens(list(written)) < len(written):
            raise ModelOutputError("the server did not keep to the grammar")
        self._first = self._first or time.monotonic()
        self._text.append(written.decode())
        yield self._text[-1]

    def end(self) -> Iterator[str]:
        """The server says no more; the text that it left out. Raises Failed when it had not finished, ModelOutputError
        when the grammar does not let the answer end here."""
        if self._finish is None:
            raise Failed("broke off its answer")
        if self._finish not in ("stop", "length"):
            raise ModelOutputError("the server ended the answer for a reason of its own")
        if self._finish == "stop":
            yield from self._accept(self._half)
        if self._finish == "stop" and self._matcher is not None and not self._matcher.is_accepting():
            # Servers may strip the white space at an answer's end; where the grammar forces it, it is put back.
            rest = self._matcher.compute_ff_bytes()
            self._matcher.try_consume_tokens(list(rest))
            if rest.strip() or not self._matcher.is_accepting():
                raise ModelOutputError("the server did not keep to the grammar")
            self._text.append(rest.decode())
            yield self._text[-1]

    def generated(self, max_tokens: int | None) -> Generated:
        """Raises TooLong for an answer that had no room to end."""
        completion = _number(self._usage, "completion_tokens")
        if self._finish == "length" and (max_tokens is None or 0 < completion < max_tokens):
            raise TooLong(f"the server cut the answer off after {completion} tokens: its context is full")
        now = time.monotonic()
        forced = min(self._forced, completion)
        return Generated(
            text="".join(self._text),
            choices=(),
            prompt_tokens=_number(self._usage, "prompt_tokens"),
            sampled_tokens=completion - forced,
            forced_tokens=forced,
            seconds=now - self._started,
            first_seconds=(self._first or now) - self._started,
            finish="length" if self._finish == "length" else "stop",
        )


def _number(usage: dict[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) and value > 0 else 0
