"""Use case 1 for a chat model: a note's prompts as the product writes them, and the answers that it hopes for."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from app.errors import InvalidInput, TooLong
from app.generation.reader import NoteReader, Window, source_lines
from app.generation.structured import first_refused
from app.terminology.matching import Lexicon
from training.chat_tokens import ChatTokens
from training.corpus.core import Line
from training.shards import Note, written


class PairWriter:
    """Writes the chats of notes for the chat model `tokens`; `prompt`: a file of the product's prompts."""

    def __init__(self, tokens: ChatTokens, lexicon: Lexicon, prompt: str) -> None:
        self._reader = NoteReader(cast(Any, tokens), prompt=prompt)
        self._lexicon = lexicon

    def chats(self, note: Note) -> Iterator[dict[str, Any]]:
        """{"messages": […]} of each window of `note`, but for those whose grammar refuses the answer: what a model could
        not write is not taught."""
        lines = source_lines(note.text)
        if [line.text for line in lines] != [line.text for line in note.lines]:
            return
        mentions = [(m.start, m.end, m.kind) for m in self._lexicon.find_mentions(note.text)]
        try:
            windows = self._reader.windows(note.text, mentions, note.document_type)
        except TooLong:
            return
        for window in windows:
            answer = self._answer(window, note.lines)
            if window.numbers and obeys(window.grammar, answer):
                messages = [message._asdict() for message in window.messages]
                yield {"messages": [*messages, {"role": "assistant", "content": answer}]}

    @staticmethod
    def _answer(window: Window, lines: Sequence[Line]) -> str:
        return written([lines[number] for number in window.numbers])


def obeys(grammar: str, text: str) -> bool:
    """May `text`, and nothing more, be written under `grammar` (Lark source)?"""
    try:
        return first_refused(grammar, [text]) is None
    except InvalidInput:
        return False
