"""Texts for other programs, written by the models of this process (`app.web.completions_api` is their wire form).

They share the engine, and so its batches, with the notes that are being read.
"""

import logging
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import Protocol

from app.errors import InvalidInput, Unavailable
from app.generation.chat import Message
from app.generation.llama import LlamaCpp
from app.generation.structured import json_schema_grammar, lark_grammar
from schemas.completion import CompletionOptions, Finish, Usage

log = logging.getLogger(__name__)

class Models(Protocol):
    """The models by their names: base, and those of the use cases."""

    @property
    def names(self) -> Sequence[str]: ...

    def use(self, name: str) -> tuple[LlamaCpp, str | None]:
        """The model, and the adapter that it needs. Raises: NotFound."""
        ...


class TimeOver(Unavailable):
    """Asking the same again would take as long again."""

    retryable = False


class Completion:
    """One text. Iterating, once, gives it as it is written; afterwards `finish` and `usage` are there.

    Iterating raises TimeOver, Unavailable (cancelled, engine closed) and ModelOutputError.
    """

    def __init__(
        self,
        model: LlamaCpp,
        adapter: str | None,
        prompt: Sequence[int],
        shared: int,
        options: CompletionOptions,
        max_seconds: float,
    ) -> None:
        self._started = time.monotonic()
        self._model, self._stop, self._max_seconds = model, options.stop, max_seconds
        self._prompt_tokens = len(prompt)
        # The engine fails a text that outgrows the context; one token less, and it ends as one that is cut off.
        room = max(1, model.sequence_tokens - len(prompt) - 1)
        limit = min(options.max_tokens or room, room)
        self._pending = model.submit(
            prompt,
            _grammar(options),
            shared=shared,
            adapter=adapter,
            max_tokens=limit,
            temperature=options.temperature,
            seed=options.seed % 2**64,
            max_seconds=max_seconds,
        )
        self.finish: Finish = "stop"
        self.usage = Usage(prompt_tokens=len(prompt), completion_tokens=0, forced_tokens=None, seconds=0.0)

    def cancel(self) -> None:
        """Ends the generation soon; from any thread, and harmless after the end."""
        self._pending.cancel()

    def __iter__(self) -> Iterator[str]:
        try:
            yield from filter(None, self._before_stop())
        finally:
            self.cancel()
        usage = self.usage
        log.info(
            "completion written",
            extra={
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "seconds": round(usage.seconds, 3),
                "finish": self.finish,
            },
        )

    def _before_stop(self) -> Iterator[str]:
        """The text up to the first stop string; what may become one waits."""
        given, open_ = [""], ""
        for piece in self._written():
            given.append(piece)
            open_ += piece
            cut = min((at for at in map(open_.find, self._stop) if at >= 0), default=-1)
            if cut >= 0:
                self.cancel()
                self.finish = "stop"
                self._account("".join(given)[: cut - len(open_)])
                yield open_[:cut]
                return
            safe = len(open_) - max((_begun(open_, stop) for stop in self._stop), default=0)
            yield open_[:safe]
            open_ = open_[safe:]
        yield open_

    def _written(self) -> Iterator[str]:
        given = 0
        try:
            for piece in self._pending:
                given += len(piece)
                yield piece
            generated = self._pending.result()
        except Unavailable as error:
            if time.monotonic() - self._started >= self._max_seconds:
                raise TimeOver(str(error)) from None
            raise
        self.finish = generated.finish
        self.usage = Usage(
            prompt_tokens=self._prompt_tokens,
            completion_tokens=generated.sampled_tokens + generated.forced_tokens,
            forced_tokens=generated.forced_tokens,
            seconds=generated.seconds,
        )
        yield generated.text[given:]

    def _account(self, text: str) -> None:
        """The usage of a text that the engine did not end itself: its tokens are counted again."""
        self.usage = Usage(
            prompt_tokens=self._prompt_tokens,
            completion_tokens=len(self._model.tokenize(text, special=True)),
            forced_tokens=None,
            seconds=time.monotonic() - self._started,
        )


class ModelCompletions:
    """Completions by `models`; none takes longer than `max_seconds`. Thread-safe."""

    def __init__(self, models: Models, max_seconds: float) -> None:
        self._models, self._max_seconds = models, max_seconds
        self._lock = threading.Lock()
        self._begun: weakref.WeakSet[Completion] = weakref.WeakSet()

    def cancel(self) -> None:
        """Ends all that are under way."""
        with self._lock:
            begun = list(self._begun)
        for completion in begun:
            completion.cancel()

    @property
    def names(self) -> Sequence[str]:
        return tuple(self._models.names)

    def chat(self, model: str, messages: Sequence[Message], options: CompletionOptions) -> Completion:
        """Raises: NotFound (model), InvalidInput (no chat template, messages, grammar), TooLong, Unavailable."""
        llama, adapter = self._use(model)
        if not llama.chats:
            raise InvalidInput("this model has no chat template; use /v1/completions")
        prompt = llama.chat_prompt(messages)
        # Others are likely to begin with the same instructions, but not with the same conversation.
        instructed = {message.role for message in messages[:-1]} == {"system"}
        shared = prompt.shared if instructed else 0
        return self._begin(Completion(llama, adapter, prompt.tokens, shared, options, self._max_seconds))

    def text(self, model: str, prompt: str, options: CompletionOptions) -> Completion:
        """`prompt` is continued as it is, reserved tokens written in it included. Raises as `chat`."""
        llama, adapter = self._use(model)
        tokens = llama.tokenize(prompt, special=True)
        if llama.begin_token >= 0 and llama.metadata("tokenizer.ggml.add_bos_token") == "true":
            tokens = [llama.begin_token, *tokens]
        if not tokens:
            raise InvalidInput("the prompt is empty")
        return self._begin(Completion(llama, adapter, tokens, 0, options, self._max_seconds))

    def _begin(self, completion: Completion) -> Completion:
        with self._lock:
            self._begun.add(completion)
        return completion

    def _use(self, name: str) -> tuple[LlamaCpp, str | None]:
        try:
            return self._models.use(name)
        except (InvalidInput, Unavailable) as error:
            # Not the fault of whoever asks, who is not told about files either.
            log.error("a model cannot be opened", exc_info=error)
            raise Unavailable("this model cannot be opened; `hyojun models check` says why") from None


def _grammar(options: CompletionOptions) -> str | None:
    if options.json_schema is not None:
        return json_schema_grammar(options.json_schema)
    return lark_grammar(options.grammar) if options.grammar is not None else None


def _begun(text: str, stop: str) -> int:
    """How many of the last characters of `text` may be the beginning of `stop`."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
