"""How the forms are written with a model's tokens: fragments and replayed text of a model that was trained on them, and
sizes of texts for any."""

from collections.abc import Sequence

from app.errors import InvalidInput
from app.generation import form, grammar
from app.generation.llama import LlamaCpp
from app.generation.remote import RemoteModel
from app.generation.segments import pieces

_CACHED_PIECES = 50_000


class Vocabulary:
    """Of `model`; `compact`: it has a token for each fragment of the statement form. Thread-safe.

    Raises InvalidInput for a compact model that lacks one, and for another that has no chat template.
    """

    def __init__(self, model: LlamaCpp | RemoteModel, *, compact: bool) -> None:
        self._model = model
        self._pieces: dict[str, list[int]] = {}  # emptied when it has grown
        self._fragments: dict[str, int] = {}
        if compact:
            self._fragments = {text: self._single(text) for text in form.all_fragments()}
            self.writing = grammar.compact(self._fragments.__getitem__, self.replay)
        else:
            if not model.chats:
                raise InvalidInput("the model file carries no chat template")
            self.writing = grammar.PLAIN

    def fragment(self, text: str) -> int:
        """The token of a fragment."""
        return self._fragments[text]

    def size(self, text: str) -> int:
        """Tokens of `text`, estimated where the model is served."""
        return self._model.count(text) if isinstance(self._model, RemoteModel) else len(self.replay(text))

    def replay(self, text: str) -> Sequence[int]:
        """The tokens of `text`, piece by piece, as the training wrote it. A server tells none."""
        assert not isinstance(self._model, RemoteModel)
        found: list[int] = []
        for piece in pieces(text):
            tokens = self._pieces.get(piece)
            if tokens is None:
                if len(self._pieces) > _CACHED_PIECES:
                    self._pieces.clear()
                tokens = self._pieces[piece] = self._model.tokenize(piece)
            found += tokens
        return found

    def _single(self, fragment: str) -> int:
        tokens = self._model.tokenize(fragment, special=True)
        if len(tokens) != 1:
            raise InvalidInput("the model's vocabulary lacks a fragment of the statement form")
        return tokens[0]
