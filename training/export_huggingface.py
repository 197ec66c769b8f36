"""A Hugging Face folder (Qwen2 or Llama, safetensors) as GGUF, and a LoRA adapter (PEFT) as GGUF adapter.

Source of tensor names: `gguf.get_tensor_name_map`; of keys and of the order of Llama's rotary dimensions:
convert_hf_to_gguf.py and convert_lora_to_gguf.py of llama.cpp.
"""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open

from training import gguf_file
from training.chat_tokens import template_source

_ARCHITECTURES = {"qwen2": gguf.MODEL_ARCH.QWEN2, "llama": gguf.MODEL_ARCH.LLAMA}
_PRE = {"qwen2": "qwen2", "llama": "llama-bpe"}
"""llama.cpp's names of how the tokenizers of Qwen2 and of Llama 3 cut a text before merging."""
_LORA = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<part>[AB])\.weight$")


class _Folder:
    """config.json and the names of the tensors in one or several safetensors files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.architecture = str(self.config.get("model_type"))
        if self.architecture not in _ARCHITECTURES:
            raise ValueError(f"{folder} is of type {self.architecture}; only qwen2 and llama can be exported")
        self.heads = int(self.config["num_attention_heads"])
        self.kv_heads = int(self.config.get("num_key_value_heads") or self.heads)
        self._names = gguf.get_tensor_name_map(_ARCHITECTURES[self.architecture], int(self.config["num_hidden_layers"]))

    def theirs(self, module: str) -> str:
        """llama.cpp's name of a module or parameter. Raises ValueError where it has none."""
        found = self._names.get_name(module, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise ValueError(f"llama.cpp has no tensor for {module}")
        return str(found)

    def order(self, module: str, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """`rows` of a query or key projection in llama.cpp's order: its `llama` turns neighbouring dimensions together,
        Hugging Face's those of the two halves of a head."""
        if self.architecture != "llama" or not module.endswith(("q_proj", "k_proj")):
            return rows
        heads = self.heads if module.endswith("q_proj") else self.kv_heads
        return rows.reshape(heads, 2, -1, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def _files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder} has no safetensors files")
    return files


def write_model(source: Path, target: Path, weights: gguf_file.Type, *, name: str, pre: str | None = None) -> None:
    """Raises ValueError for another architecture or tokenizer, FileNotFoundError."""
    folder = _Folder(source)
    tensors: list[gguf_file.Tensor] = []
    rows = 0
    for file in _files(source):
        with safe_open(file, framework="pt") as content:
            for key in content.keys():  # noqa: SIM118 - not a mapping
                if key.endswith("rotary_emb.inv_freq") or (key == "lm_head.weight" and _tied(folder)):
                    continue
                shape = tuple(content.get_slice(key).get_shape())
                if key == "model.embed_tokens.weight":
                    rows = shape[0]
                tensors.append(gguf_file.Tensor(folder.theirs(key), shape, _loader(folder, file, key)))
    describe = _describe(folder, rows, name, pre or _PRE[folder.architecture])
    gguf_file.write(target, folder.architecture, tensors, weights, describe)


def _tied(folder: _Folder) -> bool:
    return bool(folder.config.get("tie_word_embeddings", False))


def _loader(folder: _Folder, file: Path, key: str) -> Callable[[], NDArray[np.float32]]:
    def load() -> NDArray[np.float32]:
        with safe_open(file, framework="pt") as content:
            rows: NDArray[np.float32] = content.get_tensor(key).to(torch.float32).numpy()
        return folder.order(key.rpartition(".")[0], rows)

    return load


def _describe(folder: _Folder, rows: int, name: str, pre: str) -> Callable[[Any], None]:
    config = folder.config
    tokenizer = json.loads((folder.folder / "tokenizer.json").read_text(encoding="utf-8"))
    special = frozenset(added["content"] for added in tokenizer.get("added_tokens", []) if added.get("special"))
    vocabulary = gguf_file.vocabulary(tokenizer, special, pre, rows)
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if (rope.get("rope_type") or rope.get("type") or "default") != "default":
        raise ValueError(f"rotary scaling {rope} is not supported; export a model without it")
    settings = folder.folder / "tokenizer_config.json"
    marks = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}

    def describe(writer: Any) -> None:
        writer.add_name(name)
        writer.add_context_length(int(config["max_position_embeddings"]))
        writer.add_embedding_length(int(config["hidden_size"]))
        writer.add_block_count(int(config["num_hidden_layers"]))
        writer.add_feed_forward_length(int(config["intermediate_size"]))
        writer.add_head_count(folder.heads)
        writer.add_head_count_kv(folder.kv_heads)
        if size := config.get("head_dim"):
            writer.add_key_length(int(size))
            writer.add_value_length(int(size))
            writer.add_rope_dimension_count(int(size))
        elif folder.architecture == "llama":
            writer.add_rope_dimension_count(int(config["hidden_size"]) // folder.heads)
        writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
        writer.add_rope_freq_base(float(config.get("rope_theta") or rope.get("rope_theta") or 10000.0))
        vocabulary.write(writer)
        for key, add in (
            ("bos_token", writer.add_bos_token_id), ("eos_token", writer.add_eos_token_id),
            ("pad_token", writer.add_pad_token_id),
        ):  # fmt: skip
            mark = marks.get(key)
            text = mark.get("content") if isinstance(mark, dict) else mark
            if text in vocabulary.tokens:
                add(vocabulary.tokens.index(text))
        writer.add_add_bos_token(bool(marks.get("add_bos_token", False)))
        if template := template_source(folder.folder):
            writer.add_chat_template(template)

    return describe


def write_adapter(
    source: Path, target: Path, *, name: str, base: Path | None = None, weights: gguf_file.Type = "f32"
) -> None:
    """`source`: what PEFT's save_pretrained wrote; its config names the local folder of the model below. `base`: the
    GGUF that the adapter has to fit. Raises ValueError where it does not, or is no plain LoRA; FileNotFoundError."""
    config = json.loads((source / "adapter_config.json").read_text(encoding="utf-8"))
    if config.get("peft_type") != "LORA" or config.get("use_dora") or config.get("bias", "none") != "none":
        raise ValueError(f"{source} is no plain LoRA")
    if config.get("rank_pattern") or config.get("alpha_pattern") or config.get("modules_to_save"):
        raise ValueError(f"{source} has ranks of its own for some layers, or whole layers beside them")
    folder = _Folder(Path(config["base_model_name_or_path"]))
    rank = int(config["r"])
    # llama.cpp multiplies by alpha / rank; a rank-stabilized adapter by alpha / sqrt(rank).
    alpha = float(config["lora_alpha"]) * (math.sqrt(rank) if config.get("use_rslora") else 1.0)
    factors: dict[str, NDArray[np.float32]] = {}
    with safe_open(source / "adapter_model.safetensors", framework="pt") as content:
        for key in sorted(content.keys()):
            match = _LORA.fullmatch(key)
            if match is None:
                raise ValueError(f"{source} holds {key}, which is no factor of a linear layer")
            factor: NDArray[np.float32] = content.get_tensor(key).to(torch.float32).numpy()
            module, part = match["module"], match["part"]
            if part == "B":
                factor = folder.order(module, factor)
            factors[f"{folder.theirs(module)}.weight.lora_{part.lower()}"] = factor
    gguf_file.write_lora(target, folder.architecture, factors, alpha, name=name, base=base, weights=weights)
