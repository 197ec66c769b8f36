"""The tokenizer and the chat template of a local Hugging Face folder, used as the product uses those of a GGUF file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from app.generation.chat import ChatTemplate, Message


@dataclass(frozen=True)
class Sample:
    """Token ids, and which of them the model shall learn to predict."""

    ids: list[int]
    learn: list[bool]


class ChatTokens:
    """`folder`: with tokenizer.json and, for chats, a template in tokenizer_config.json or chat_template.jinja.

    Fills the part of a model that `app.generation.reader.NoteReader` needs to prepare prompts. Raises FileNotFoundError.
    """

    path = "corpus"

    def __init__(self, folder: Path, sequence_tokens: int = 8192) -> None:
        self._plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._plain.encode_special_tokens = True
        self._special = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.sequence_tokens = sequence_tokens
        file = folder / "tokenizer_config.json"
        self.settings: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        self.begin_text = self._mark("bos_token")
        self.end_text = self._mark("eos_token")
        self.source = template_source(folder)
        self._chat = ChatTemplate(self.source, self) if self.source else None

    def _mark(self, key: str) -> str:
        found = self.settings.get(key)
        return str(found.get("content", "") if isinstance(found, dict) else found or "")

    @property
    def chats(self) -> bool:
        return self._chat is not None

    def metadata(self, key: str) -> None:
        """None for every key: the model was not trained on the compact form."""

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        found: list[int] = (self._special if special else self._plain).encode(text, add_special_tokens=False).ids
        return found

    def document(self, text: str) -> list[int]:
        """`text` as pre-training sees it: its tokens and the end mark."""
        return [*self.tokenize(text), *self.tokenize(self.end_text, special=True)]

    def chat(self, messages: Sequence[Message]) -> Sample:
        """A conversation as token ids; the last message, the assistant's, is to be learnt with the mark that ends it.

        What stands before it is, token for token, the prompt of `app.generation.chat` in production.
        Raises ValueError when the last message is not the assistant's or the folder has no chat template.
        """
        if self._chat is None or not messages or messages[-1].role != "assistant":
            raise ValueError("a chat to be learnt needs a chat template and ends with a message of the assistant")
        prompt, shared = self._chat.prompt(messages)
        # The template goes on with an opening for the next answer; of that only the end of the turn is kept.
        end = shared + len(self.tokenize(messages[-1].content)) + 1
        return Sample(prompt[:end], [False] * shared + [True] * (len(prompt[:end]) - shared))


def template_source(folder: Path) -> str | None:
    """The chat template of a Hugging Face folder."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    file = folder / "tokenizer_config.json"
    found = json.loads(file.read_text(encoding="utf-8")).get("chat_template") if file.is_file() else None
    return found if isinstance(found, str) else None
