"""What a generation was made with: fingerprints that go into every Run."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

PROMPTS = Path(__file__).parent / "prompts"

_HEADER_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Fingerprints:
    """`model`: SHA-256 over the size and the first 4 MiB of the GGUF (header, metadata, vocabulary and the start of
    the tensors); `prompt`, `grammar`: SHA-256 of the prompt file and of the code that writes grammars.
    Each the first 16 hex digits."""

    model: str
    prompt: str
    grammar: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]


def fingerprints(model: Path, prompt: str) -> Fingerprints:
    """Fingerprints of the GGUF at `model` and of `prompt`."""
    with model.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    here = Path(__file__).parent
    code = [(here / name).read_bytes() for name in ("form.py", "grammar.py", "segments.py")]
    return Fingerprints(
        model=_digest(str(model.stat().st_size).encode(), header),
        prompt=_digest(prompt.encode()),
        grammar=_digest(*code),
    )


def prompt_text(name: str) -> str:
    """The prompt file `prompts/<name>.txt`."""
    return (PROMPTS / f"{name}.txt").read_text(encoding="utf-8")
