"""Messages as the tokens that a chat model was trained on: the chat template of its GGUF file, without its loopholes."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import jinja2
import jinja2.sandbox

from app.errors import InvalidInput

_PLACES = "\ue000{}\ue001"
"""Stands for a message while the template is rendered (private use: no template holds it)."""


class Message(NamedTuple):
    role: Literal["system", "user", "assistant"]
    content: str


class Prompt(NamedTuple):
    """`shared`: how many of the first tokens are the same for every prompt with the same messages before the last."""

    tokens: list[int]
    shared: int


class Tokenizer(Protocol):
    @property
    def begin_text(self) -> str: ...

    def tokenize(self, text: str, *, special: bool = False) -> list[int]: ...


class ChatTemplate:
    """Raises InvalidInput for a template that Jinja cannot read."""

    def __init__(self, source: str, model: Tokenizer) -> None:
        # The template comes with a model file from outside, so it runs in Jinja's sandbox.
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = _refuse
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise InvalidInput(f"the model's chat template cannot be read: {type(error).__name__}") from None
        self._model = model

    def prompt(self, messages: Sequence[Message]) -> Prompt:
        """The tokens of `messages`, ready for the model's answer.

        Only the template's own marks become control tokens: <|im_end|> in a message stays text.
        Raises InvalidInput when the template refuses the messages.
        """
        if not messages:
            raise InvalidInput("there is no message")
        places = [_PLACES.format(number) for number in range(len(messages))]
        stand_ins = [{"role": m.role, "content": place} for m, place in zip(messages, places, strict=True)]
        try:
            rest = self._template.render(
                messages=stand_ins, add_generation_prompt=True, bos_token=self._model.begin_text, eos_token=""
            )
        except jinja2.TemplateError as error:
            raise InvalidInput(f"the model's chat template refuses the messages: {type(error).__name__}") from None
        tokens: list[int] = []
        shared = 0
        for message, place in zip(messages, places, strict=True):
            before, found, rest = rest.partition(place)
            if not found:
                raise InvalidInput(f"the model's chat template leaves out a message of role {message.role}")
            tokens += self._model.tokenize(before, special=True)
            shared = len(tokens)
            tokens += self._model.tokenize(message.content)
        return Prompt([*tokens, *self._model.tokenize(rest, special=True)], shared)


def _refuse(reason: str) -> None:
    raise jinja2.TemplateError(reason)
