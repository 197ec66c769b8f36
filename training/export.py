"""Writes a trained model as GGUF (architecture qwen2, Q8_0): `python -m training.export training/runs/uc1 weights/hyojun-uc1.gguf`.

The tokenizer goes in as byte-level BPE with the fragments of the statement form as control tokens, and the key
`hyojun.form` says which form the model writes. Source of tensor and key names: the `gguf` package.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from app.generation.form import FORM_VERSION
from training.encode import BOS, EOS, PAD, RESERVED

NORMAL, CONTROL = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL


def export(folder: Path, target: Path, *, name: str = "hyojun-uc1", dtype: str = "q8_0") -> None:
    """`folder` holds tokenizer.json and checkpoint.pt as `training.train` writes them. `dtype`: q8_0 or f32."""
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    shape, weights = state["shape"], state["model"]
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    tokens: list[str] = [""] * len(tokenizer["vocab"])
    for token, number in tokenizer["vocab"].items():
        tokens[number] = token
    merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["merges"]]

    target.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(target, "qwen2")
    writer.add_name(name)
    writer.add_string("hyojun.form", FORM_VERSION)
    writer.add_uint64("hyojun.trained_tokens", int(state["tokens"]))
    writer.add_context_length(int(shape["context"]))
    writer.add_embedding_length(int(shape["width"]))
    writer.add_block_count(int(shape["layers"]))
    writer.add_feed_forward_length(int(shape["feed_forward"]))
    writer.add_head_count(int(shape["heads"]))
    writer.add_head_count_kv(int(shape["heads"]))
    writer.add_layer_norm_rms_eps(shape["norm_epsilon"])
    writer.add_rope_freq_base(shape["rope_base"])
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    reserved = set(RESERVED)
    writer.add_token_types([CONTROL if t in reserved else NORMAL for t in tokens])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(tokenizer["vocab"][BOS])
    writer.add_eos_token_id(tokenizer["vocab"][EOS])
    writer.add_pad_token_id(tokenizer["vocab"][PAD])
    writer.add_add_bos_token(False)

    def add(key: str, tensor: Any) -> None:
        array = tensor.float().numpy()
        if array.ndim == 1 or dtype == "f32":
            writer.add_tensor(key, array.astype(np.float32))
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(key, gguf.quants.quantize(array, kind), raw_dtype=kind)

    add("token_embd.weight", weights["embedding.weight"])
    add("output_norm.weight", weights["norm.weight"])
    for i in range(int(shape["layers"])):
        for ours, theirs in (
            ("attn_norm", "attn_norm"), ("ffn_norm", "ffn_norm"), ("q", "attn_q"), ("k", "attn_k"), ("v", "attn_v"),
            ("o", "attn_output"), ("gate", "ffn_gate"), ("up", "ffn_up"), ("down", "ffn_down"),
        ):  # fmt: skip
            add(f"blk.{i}.{theirs}.weight", weights[f"blocks.{i}.{ours}.weight"])
            if ours in ("q", "k", "v"):
                add(f"blk.{i}.{theirs}.bias", weights[f"blocks.{i}.{ours}.bias"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--dtype", choices=("q8_0", "f32"), default="q8_0")
    args = parser.parse_args()
    export(args.folder, args.target, dtype=args.dtype)
    print(f"{args.target}: {args.target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
