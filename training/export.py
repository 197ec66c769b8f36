"""Writes a trained model as GGUF: `python -m training.export --config C`.

Table [export]. `source` is a checkpoint of our own decoder (architecture qwen2, the fragments of the statement form as
control tokens, key `hyojun.form`) or of a LoRA adapter on it, a Hugging Face folder of a Qwen2 or Llama model, or a LoRA
adapter (PEFT) on one. Types f32, f16, q8_0, and q4_k_m (models alone) through llama.cpp; a
model is q8_0 where nothing else is asked for, an adapter f32.
"""

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from app.generation.form import FORM_VERSION
from training import gguf_file
from training.config import Export, from_arguments, wanted
from training.decoder import CHECKPOINT, TOKENIZER, load, shape_of
from training.encode import BOS, EOS, PAD, RESERVED
from training.export_huggingface import write_adapter, write_model

# Layers of our decoder -> llama.cpp's tensors of the architecture qwen2.
_LAYERS = {
    "attn_norm": "attn_norm", "ffn_norm": "ffn_norm", "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output",
    "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down",
}  # fmt: skip


def export(plan: Export) -> Path:
    """Writes `plan.target` and returns it. Raises ValueError for what cannot be written as GGUF, FileNotFoundError."""
    target = plan.target
    if plan.type == "q4_k_m" and not _is_adapter(plan.source):
        whole = target.with_name(target.name + ".f16")
        try:
            _write(plan, whole, "f16")
            gguf_file.quantize(whole, target)
        finally:
            whole.unlink(missing_ok=True)
    else:
        _write(plan, target, cast(gguf_file.Type, plan.type or "q8_0"))
    return target


def _is_adapter(source: Path) -> bool:
    return _is_peft(source) or (not _is_huggingface(source) and "adapter" in load(source))


def _is_peft(source: Path) -> bool:
    return (source / "adapter_config.json").is_file()


def _is_huggingface(source: Path) -> bool:
    return (source / "config.json").is_file()


def _factors(plan: Export) -> gguf_file.Type:
    """What q8_0 cannot hold, since the rank is no multiple of its block, is f16 then. On the CPU q8_0 alone computes the same
    for a sequence whatever is decoded beside it."""
    return "f32" if plan.type in (None, "q4_k_m") else cast(gguf_file.Type, plan.type)


def _write(plan: Export, target: Path, weights: gguf_file.Type) -> None:
    if _is_peft(plan.source):
        write_adapter(plan.source, target, name=plan.name, base=plan.base, weights=_factors(plan))
    elif _is_huggingface(plan.source):
        write_model(plan.source, target, weights, name=plan.name, pre=plan.pre)
    elif _is_adapter(plan.source):
        write_decoder_adapter(plan.source, target, name=plan.name, base=plan.base, weights=_factors(plan))
    else:
        write_decoder(plan.source, target, weights, name=plan.name)


def write_decoder(source: Path, target: Path, weights: gguf_file.Type, *, name: str) -> None:
    """`source`: a checkpoint of `training.decoder`, or a folder that has one; its tokenizer lies beside it."""
    checkpoint = source / CHECKPOINT if source.is_dir() else source
    state = load(checkpoint)
    shape, trained = shape_of(state), state["model"]
    tokenizer = json.loads(checkpoint.with_name(TOKENIZER).read_text(encoding="utf-8"))
    vocabulary = gguf_file.vocabulary(tokenizer, frozenset(RESERVED), "gpt-2", shape.vocabulary)

    def describe(writer: Any) -> None:
        writer.add_name(name)
        writer.add_string("hyojun.form", FORM_VERSION)
        writer.add_uint64("hyojun.trained_tokens", int(state["tokens"]))
        writer.add_context_length(shape.context)
        writer.add_embedding_length(shape.width)
        writer.add_block_count(shape.layers)
        writer.add_feed_forward_length(shape.feed_forward)
        writer.add_head_count(shape.heads)
        writer.add_head_count_kv(shape.kv_heads)
        writer.add_layer_norm_rms_eps(shape.norm_epsilon)
        writer.add_rope_freq_base(shape.rope_base)
        vocabulary.write(writer)
        writer.add_bos_token_id(vocabulary.tokens.index(BOS))
        writer.add_eos_token_id(vocabulary.tokens.index(EOS))
        writer.add_pad_token_id(vocabulary.tokens.index(PAD))
        writer.add_add_bos_token(False)

    def tensor(theirs: str, ours: str) -> gguf_file.Tensor:
        return gguf_file.Tensor(theirs, tuple(trained[ours].shape), lambda: trained[ours].float().numpy())

    tensors = [tensor("token_embd.weight", "embedding.weight"), tensor("output_norm.weight", "norm.weight")]
    for block in range(shape.layers):
        for ours, theirs in _LAYERS.items():
            for part in ("weight", "bias") if ours in ("q", "k", "v") else ("weight",):
                tensors.append(tensor(f"blk.{block}.{theirs}.{part}", f"blocks.{block}.{ours}.{part}"))
    gguf_file.write(target, "qwen2", tensors, weights, describe)


def write_decoder_adapter(
    source: Path, target: Path, *, name: str, base: Path | None = None, weights: gguf_file.Type = "f32"
) -> None:
    """`source`: a checkpoint of an adapter on our decoder, or a folder that has one. `base`: the GGUF that it has to fit,
    which may be of another type than the weights it was trained on. Raises ValueError where it does not."""
    state = load(source)
    factors: dict[str, NDArray[np.float32]] = {}
    for key, factor in state["adapter"].items():
        _, block, ours, part = key.split(".")
        factors[f"blk.{block}.{_LAYERS[ours]}.weight.lora_{part}"] = factor.float().numpy()
    gguf_file.write_lora(
        target, "qwen2", factors, float(state["alpha"]), name=name, form=state.get("form"), base=base, weights=weights
    )


if __name__ == "__main__":
    written = export(wanted(from_arguments(__doc__).export, "export"))
    print(f"{written}: {written.stat().st_size / 1e6:.1f} MB")
