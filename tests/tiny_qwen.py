"""A Hugging Face Qwen2 or Llama model with random weights, small enough to train in a test."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from random_model import CHATML
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# How the tokenizers of Qwen2 and Llama 3 cut a text before merging; they differ in how many digits stay together.
_CUT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def write_qwen2(folder: Path, texts: Iterable[str], seed: int = 1, *, tied: bool = False) -> Path:
    """Width 64, 2 layers, 4 heads of queries and 2 of keys, and a tokenizer of at most 1,500 tokens made from `texts`."""
    size = _write_tokenizer(folder, texts, _CUT)
    torch.manual_seed(seed)
    config = Qwen2Config(tie_word_embeddings=tied, **_sizes(size))
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def write_llama(folder: Path, texts: Iterable[str], seed: int = 1) -> Path:
    size = _write_tokenizer(folder, texts, _CUT.replace(r"|\p{N}|", r"|\p{N}{1,3}|"))
    torch.manual_seed(seed)
    LlamaForCausalLM(LlamaConfig(tie_word_embeddings=False, **_sizes(size))).save_pretrained(folder)
    return folder


def _sizes(vocabulary: int) -> dict[str, Any]:
    # Rows that are no tokens, as large models have them.
    return {
        "vocab_size": vocabulary + 9, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 8192, "bos_token_id": 0,
        "eos_token_id": 2,
        # Larger than usual: what the model prefers then depends on the text before it.
        "initializer_range": 0.2,
    }  # fmt: skip


def _write_tokenizer(folder: Path, texts: Iterable[str], cut: str) -> int:
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(cut), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=1500, initial_alphabet=alphabet, special_tokens=MARKS, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"eos_token": MARKS[2], "pad_token": MARKS[0], "add_bos_token": False, "chat_template": CHATML}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return int(tokenizer.get_vocab_size())
