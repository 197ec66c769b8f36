"""GGUF files with random weights: all they can do is obey a grammar, which is what is tested.

Two tiny vocabularies (architecture qwen2): `write_compact` has one reserved token for each fragment of the statement
form, laid out as `training.export` does; `write_plain` has the 256 bytes and the marks of a ChatML chat template.
`write_like` keeps the architecture, the vocabulary and the metadata of a real model file and forgets what it learnt.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np

from app.generation.form import FORM_VERSION
from training.encode import BOS, EOS, PAD, RESERVED, train_tokenizer

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_TEXTS = (
    "2型糖尿病（2015年〜）、高血圧症、HbA1c 7.2%",
    "アムロジピンOD錠5mg 1回1錠 1日1回朝食後 28日分",
    "HBs抗原 陰性、HCV抗体 陰性。ペニシリンで発疹。父：胃癌",
    'AST 24 U/L ALT 31 U/L CRP 0.12 mg/dL\t(2+) \\ " {}',
)


def byte_letters() -> list[str]:
    """The letter that stands for each byte in a byte-level vocabulary (GPT-2's table): printable Latin-1 as itself,
    the rest counted up from U+0100."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def write_compact(path: Path, seed: int = 1) -> Path:
    tokenizer = train_tokenizer(_TEXTS * 20, 420)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = [""] * len(model["vocab"])
    for token, number in model["vocab"].items():
        tokens[number] = token
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    writer = _writer(path, tokens, RESERVED, merges, seed)
    writer.add_string("hyojun.form", FORM_VERSION)
    writer.add_bos_token_id(tokens.index(BOS))
    writer.add_eos_token_id(tokens.index(EOS))
    writer.add_pad_token_id(tokens.index(PAD))
    return _close(writer, path)


def write_plain(path: Path, seed: int = 1, template: str | None = CHATML) -> Path:
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    # A byte-level BPE wants at least one merge; this one makes a token of two line feeds.
    feed = byte_letters()[0x0A]
    writer = _writer(path, [*byte_letters(), feed * 2, *marks], marks, [f"{feed} {feed}"], seed)
    writer.add_bos_token_id(257)
    writer.add_eos_token_id(259)
    if template:
        writer.add_chat_template(template)
    return _close(writer, path)


def write_lora(path: Path, seed: int = 1, *, width: int = 32, rank: int = 4, architecture: str = "qwen2") -> Path:
    """A LoRA adapter for the models of `write_plain` and `write_compact`: their queries and their last layer."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(rank))
    random = np.random.default_rng(seed)
    for name, inputs, outputs in (("attn_q", width, width), ("ffn_down", 64, width)):
        writer.add_tensor(f"blk.0.{name}.weight.lora_a", random.normal(0, 0.5, (rank, inputs)).astype(np.float32))
        writer.add_tensor(f"blk.0.{name}.weight.lora_b", random.normal(0, 0.5, (outputs, rank)).astype(np.float32))
    return _close(writer, path)


def write_like(source: Path, path: Path, seed: int = 1, spread: float = 2.0) -> Path:
    """`source` with every weight drawn anew: metadata, tokenizer, shapes and tensor types stay.

    Matrices are normal with deviation `spread` / sqrt(inputs), so that activations keep their size from layer to layer
    and logits, through a normalized last layer, deviate by about `spread`: every token is likely enough to be drawn,
    and which is likelier depends on the text before it. Norms are 1, biases normal with deviation 0.3.
    """
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(path, reader.fields["general.architecture"].contents())
    for key, field in reader.fields.items():
        # The writer makes the header (version, counts) and the architecture itself.
        if not key.startswith("GGUF.") and key != "general.architecture":
            writer.add_key_value(key, field.contents(), field.types[0], sub_type=(field.types + [None])[1])
    random = np.random.default_rng(seed)
    for tensor in reader.tensors:
        shape = tuple(int(size) for size in reversed(tensor.shape))  # GGUF writes the fastest dimension first
        if tensor.name.endswith("norm.weight"):
            drawn = np.ones(shape, np.float32)
        else:
            deviation = spread / np.sqrt(shape[-1]) if len(shape) > 1 else 0.3
            drawn = random.normal(0, deviation, shape).astype(np.float32)
        writer.add_tensor(tensor.name, gguf.quants.quantize(drawn, tensor.tensor_type), raw_dtype=tensor.tensor_type)
    return _close(writer, path)


def _writer(
    path: Path, tokens: Sequence[str], reserved: Sequence[str], merges: Sequence[str], seed: int
) -> gguf.GGUFWriter:
    width, heads, hidden = 32, 2, 64
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_name("random")
    writer.add_context_length(16384)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(list(tokens))
    special = set(reserved)
    writer.add_token_types([gguf.TokenType.CONTROL if t in special else gguf.TokenType.NORMAL for t in tokens])
    writer.add_token_merges(list(merges))
    writer.add_add_bos_token(False)

    def add(key: str, *shape: int) -> None:
        writer.add_tensor(key, random.normal(0, 0.3, shape).astype(np.float32))

    add("token_embd.weight", len(tokens), width)
    for key, shape in (("attn_q", (width, width)), ("attn_k", (width, width)), ("attn_v", (width, width)),
                       ("attn_output", (width, width)), ("ffn_gate", (hidden, width)), ("ffn_up", (hidden, width)),
                       ("ffn_down", (width, hidden))):  # fmt: skip
        add(f"blk.0.{key}.weight", *shape)
    for key in ("attn_q", "attn_k", "attn_v"):
        add(f"blk.0.{key}.bias", width)
    for key in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{key}.weight", np.ones(width, np.float32))
    return writer


def _close(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
