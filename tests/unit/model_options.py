"""What a machine says about opening models, small enough for tests."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Options:
    models_file: Path = Path("nowhere/models.toml")
    model_path: Path | None = None
    model_context_tokens: int | None = None
    model_slots: int | None = None
    model_gpu_layers: int = 0
    model_threads: int | None = 1
    model_lanes: int | None = None
    model_kv_tokens: int | None = None
    model_kv_type: Literal["auto", "f32", "f16", "bf16", "q8_0", "q4_0"] = "auto"
    model_kv_unified: Literal["auto", "on", "off"] = "auto"
    model_flash_attention: Literal["auto", "on", "off"] = "auto"
