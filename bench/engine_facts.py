"""What `bench.engine` makes of its measurements: rows, agreement, latency, memory, quality, the table."""

import functools
import json
import math
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from importlib.metadata import version
from itertools import cycle, islice, takewhile
from pathlib import Path
from statistics import median
from typing import Any

import gguf

from app import fhir
from app.generation.context import Memory
from app.generation.llama import LlamaCpp
from app.generation.reader import NoteReader, Reading
from app.generation.request import Metrics
from app.intake import read_notes
from app.pipeline import Converter
from app.settings import Settings
from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon
from bench.engine_paths import OurEngine, OutlinesProcessor, ProcessorModel, Round, Task, Work, Written, open_llama

ROOT = Path(__file__).resolve().parents[1]
_KV_BYTES = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}  # bytes of a number: blocks of 32 in ggml-common.h


def rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


# -- the machine and the file -----------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    processor = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "processor": processor[1] if processor else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": _nvidia("name"),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("llama-cpp-python", "llguidance", "outlines")},
    }


def _nvidia(what: str) -> str | None:
    if not shutil.which("nvidia-smi"):
        return None
    command = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stdout.strip() or None


@functools.cache
def context_and_vocabulary(path: Path) -> tuple[int, int]:
    """The longest sequence that the model of `path` was made for, and the tokens it has."""
    fields = gguf.GGUFReader(path).fields
    architecture = fields["general.architecture"].contents()
    return int(fields[f"{architecture}.context_length"].contents()), len(fields["tokenizer.ggml.tokens"].data)


def kv_bytes(model: LlamaCpp, kv_type: str, cells: int) -> int:
    """Keys and values of all layers for `cells` tokens."""
    architecture = model.metadata("general.architecture")

    def number(key: str) -> int:
        return int(model.metadata(f"{architecture}.{key}") or 0)

    heads = number("attention.head_count")
    head = number("embedding_length") // heads
    keys = number("attention.key_length") or head
    values = number("attention.value_length") or head
    kv_heads = number("attention.head_count_kv") or heads
    return int(number("block_count") * kv_heads * (keys + values) * cells * _KV_BYTES[kv_type])


# -- speed ------------------------------------------------------------------------------------------------------------


def row(rounds: Sequence[Round], path: Path, bandwidth: float | None) -> dict[str, Any]:
    """One line of the table: medians over the rounds, and the engine's counters over all of them."""
    notes = len(rounds[0].written)
    seconds = median(one.seconds for one in rounds)
    tokens = sum(text.tokens for note in rounds[0].written for text in note)
    found: dict[str, Any] = {
        "notes": notes,
        "seconds": [round(one.seconds, 4) for one in rounds],
        "ms_per_note": rounded(seconds / notes * 1000),
        "notes_per_second": rounded(notes / seconds),
        "output_tokens": tokens,
        "output_characters": sum(len(text.text) for note in rounds[0].written for text in note),
        "tokens_per_second": rounded(tokens / seconds),
    }
    counters = [(one.before, one.after) for one in rounds if one.before and one.after]
    if not counters:
        return found

    def total(name: str) -> float:
        return float(sum(getattr(after, name) - getattr(before, name) for before, after in counters))

    last: Metrics = counters[-1][1]
    done = notes * len(counters)
    steps, decoding, choosing = total("steps"), total("decode_seconds"), total("choose_seconds")
    streamed = steps * path.stat().st_size / decoding / 1e9 if decoding else 0.0
    found |= {
        "slots": last.slots,
        "occupancy": rounded(total("slot_steps") / (steps * last.slots) if steps else 0.0),
        "steps_per_note": rounded(steps / done),
        "sampled_per_note": rounded(total("sampled_tokens") / done),
        "forced_per_note": rounded(total("forced_tokens") / done),
        "prompt_per_note": rounded(total("prompt_tokens") / done),
        "reused_per_note": rounded(total("reused_tokens") / done),
        "submit_ms_per_note": rounded(sum(one.submitting for one in rounds) / done * 1000),
        "decode_ms_per_note": rounded(decoding / done * 1000),
        "choose_ms_per_note": rounded(choosing / done * 1000),
        "sample_ms_per_sampled_token": rounded(total("sample_seconds") / max(1.0, total("sampled_tokens")) * 1000),
        "choose_ms_per_sampled_token": rounded(choosing / max(1.0, total("sampled_tokens")) * 1000),
        "choose_ms_per_output_token": rounded(choosing / max(1.0, total("sampled_tokens") + total("forced_tokens")) * 1000),
        "preempted": int(total("preempted")),
        "kv_peak": last.kv_peak,
        # Each step reads the weights once, however many sequences it serves.
        "weights_gb_per_second": rounded(streamed),
    }
    if bandwidth:
        found["share_of_bandwidth"] = rounded(streamed / bandwidth)
    return found


def part(one: Round, notes: Sequence[int]) -> Round:
    return replace(one, written=[one.written[number] for number in notes])


def ties(one: Round) -> int:
    return sum(text.ties for note in one.written for text in note)


def agreement(reference: Round, rounds: Sequence[Round]) -> dict[str, int]:
    """How many texts of all `rounds` are those of `reference`. `as_far_as_both_go`: one was cut off at its last token
    and begins the other, which spells the same text with longer tokens."""
    found = {"equal": 0, "as_far_as_both_go": 0, "different": 0}
    for one in rounds:
        for expected, written in zip(reference.written, one.written, strict=True):
            for a, b in zip(expected, written, strict=True):
                # A character that was cut in the middle is no difference.
                left, right = a.text.rstrip("\ufffd"), b.text.rstrip("\ufffd")
                if left == right:
                    found["equal"] += 1
                elif left and right and (left.startswith(right) or right.startswith(left)):
                    found["as_far_as_both_go"] += 1
                else:
                    found["different"] += 1
    return found


def partings(reference: Round, rounds: Sequence[Round]) -> list[tuple[float, float]]:
    """Where a text of the engine is not the text of `reference`: the probabilities that the two gave to what they chose
    there. Both near a half, or near the same share, is a tie but for rounding: batches add up in another order."""
    found = []
    for one in rounds:
        for expected, written in zip(reference.written, one.written, strict=True):
            for a, b in zip(expected, written, strict=True):
                if a.text != b.text and a.choices and b.choices:
                    at = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a.text, b.text, strict=False)))
                    found.append((_chosen_at(a, at), _chosen_at(b, at)))
    return found


def _chosen_at(written: Written, place: int) -> float:
    """Probability of the choice that wrote the character at `place`."""
    logarithm = [value for before, value in written.choices if before <= place][-1:]
    return round(math.exp(logarithm[0]), 4) if logarithm else 1.0


def with_grammar(work: Work, change: Callable[[str], str]) -> Work:
    return replace(work, tasks=tuple(replace(task, lark=change(task.lark)) for task in work.tasks))


def against_free_text(engine: OurEngine, works: Sequence[Work], repeat: int) -> dict[str, Any]:
    """Tokens a second with the grammars and, after the same prompts, without: as many tokens, unless the model itself
    ends its text. Of notes that fill the slots once."""
    works = works[: max(4, engine.slots // 2)]  # most have several windows
    tasks = [task for work in works for task in work.tasks]
    bound: list[float] = []
    free: list[float] = []
    made = wanted = 0
    for _ in range(repeat):
        done = engine.run(works)
        counts = [text.tokens for note in done.written for text in note]
        seconds, made = engine.run_free(tasks, counts)
        wanted = sum(counts)
        bound.append(wanted / done.seconds)
        free.append(made / seconds)
    return {
        "tokens": wanted,
        "free_tokens": made,
        "tokens_per_second": rounded(median(bound)),
        "free_tokens_per_second": rounded(median(free)),
        "ratio": rounded(median(bound) / median(free)),
    }


class Latency:
    """One note at a time: milliseconds until its first text, its first chosen token, its end."""

    def __init__(self) -> None:
        self._taken: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
        self._before: dict[int, int] = {}

    def engine(self, engine: OurEngine, number: int, task: Task) -> None:
        first, choice, end, before = engine.latency(task)
        self._before[number] = before
        self._taken[engine.name].append((first, choice, end))

    def processor(self, processor: OutlinesProcessor, number: int, task: Task) -> None:
        """To be called after `engine`, which knows where the first choice is."""
        self._taken[processor.name].append(processor.latency(task, self._before[number]))

    def medians(self) -> dict[str, dict[str, float | None]]:
        columns = ("first_text_ms", "first_choice_ms", "note_ms")
        return {
            name: {column: rounded(1000 * median(values)) for column, values in zip(columns, zip(*taken, strict=True), strict=True)}
            for name, taken in self._taken.items()
        }


# -- memory -----------------------------------------------------------------------------------------------------------


def memory_dict(memory: Memory) -> dict[str, Any]:
    return asdict(memory)


def _megabytes() -> dict[str, float]:
    """Resident memory of this process; `anonymous` leaves the mapped model file out."""
    status = Path("/proc/self/status").read_text()
    found = {name: re.search(rf"{key}:\s*(\d+) kB", status) for name, key in (("rss", "VmRSS"), ("anonymous", "RssAnon"))}
    made = {name: round(int(match[1]) / 1024, 1) for name, match in found.items() if match}
    gpu = _nvidia("memory.used")
    return made | ({"gpu": float(gpu.splitlines()[0])} if gpu else {})


def probe_in_process(wanted: dict[str, Any], options: Sequence[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.engine", *options, "--probe", json.dumps(wanted)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def probe(wanted: dict[str, Any], works_of: Callable[[LlamaCpp], list[Work]]) -> dict[str, Any]:
    """Megabytes before and after opening and, for `notes`, while they are written: growth is counted from the first
    tenth on, when caches are filled. The notes are the first lines of ours: a thousand whole ones would take long."""
    memory = Memory(**wanted["memory"])
    before = _megabytes()
    engine = OurEngine(Path(wanted["path"]), memory, wanted["max_tokens"])
    opened = _megabytes()
    cells = engine.model.metrics().kv_tokens
    computed = kv_bytes(engine.model, memory.cache_type, cells)
    found: dict[str, Any] = {"before_mb": before, "opened_mb": opened, "kv_mb": rounded(computed / 2**20), "kv_tokens": cells}
    if wanted["notes"]:
        works = works_of(engine.model)
        found["notes_ready_mb"] = _megabytes()
        samples: list[tuple[int, float]] = []
        done = 0
        coming = islice(cycle(works), wanted["notes"])
        while some := list(islice(coming, max(10, wanted["notes"] // 20))):
            engine.run(some)
            done += len(some)
            samples.append((done, _megabytes()["anonymous"]))
        warm = next(size for count, size in samples if count >= wanted["notes"] / 10)
        found |= {
            "notes": done,
            "anonymous_mb": samples,
            "growth_mb": round(samples[-1][1] - warm, 1),
            "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        }
    engine.close()
    return found


# -- quality ----------------------------------------------------------------------------------------------------------


class _Readings:
    """What was read already, with the face of a `NoteReader`: a converter takes notes one by one, the engine all."""

    def __init__(self, reader: NoteReader, notes: Sequence[Any], lexicon: Lexicon, slots: int) -> None:
        def read(note: Any) -> Reading:
            mentions = [(m.start, m.end, m.kind) for m in lexicon.find_mentions(note.text)]
            return reader.read(note.text, mentions, note.document_type.value)

        self.fingerprints = reader.fingerprints
        with ThreadPoolExecutor(slots) as pool:
            self._found = dict(zip([note.text for note in notes], pool.map(read, notes), strict=True))

    def read(self, text: str, mentions: object, document_type: str) -> Reading:
        return self._found[text]


def quality(path: Path, memory: Memory, gold: Path, scorer: Path) -> dict[str, Any]:
    """The scorer's figures for the engine with all its slots and for Outlines' processor, through the same pipeline."""
    lexicon = Lexicon(starter_entries(), starter_version())
    notes = [line.note for line in read_notes(gold) if line.note is not None]
    model = LlamaCpp(path, memory)
    found: dict[str, Any] = {}
    try:
        llama = open_llama(path, memory)
        for name, reader, slots in (
            ("engine", NoteReader(model), memory.slots),
            ("processor", NoteReader(ProcessorModel(model, llama)), 1),  # type: ignore[arg-type]
        ):
            converter = Converter(_Readings(reader, notes, lexicon, slots), lexicon, Settings())  # type: ignore[arg-type]
            with tempfile.TemporaryDirectory() as folder:
                for note in notes:
                    bundle = converter.convert(note, source="bench").bundle
                    (Path(folder) / f"{note.id}.json").write_text(fhir.dumps(bundle), encoding="utf-8")
                command = [sys.executable, str(scorer), str(gold), folder, "--json"]
                found[name] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        llama.close()
    finally:
        model.close()
    return found


# -- the table --------------------------------------------------------------------------------------------------------

_COLUMNS = {
    "ms/note": "ms_per_note",
    "notes/s": "notes_per_second",
    "tokens/s": "tokens_per_second",
    "steps/note": "steps_per_note",
    "sampled": "sampled_per_note",
    "forced": "forced_per_note",
    "occupancy": "occupancy",
    "submit ms": "submit_ms_per_note",
    "decode ms": "decode_ms_per_note",
    "choose ms": "choose_ms_per_note",
    "weights GB/s": "weights_gb_per_second",
    "of bandwidth": "share_of_bandwidth",
}


def table(result: dict[str, Any]) -> str:
    settings, host = result["settings"], result["machine"]
    lines = [
        f"{result['name']} on {host['gpu'] or host['processor']}, {settings['threads']} threads; load before {host['load_before']:.2f}",
        f"{result['notes']} notes in {result['windows']} windows, {result['prompt_tokens']} prompt tokens; "
        f"context {settings['context']}, KV {settings['kv_type']} ({settings['baselines_kv_type']} in the baselines); Outlines' backend {settings['backend']}; "
        f"medians of {settings['repeat']}" + (f"; outputs end after {settings['max_tokens']} tokens" if settings["max_tokens"] else ""),
        *_rows(result["rows"]),
        f"engine ({result['best']}) against generator {_times(result['speedup_vs_generator'])}, "
        f"against processor {_times(result['speedup_vs_processor'])}",
        f"texts identical across slots: {result['identical_across_slots']}; "
        + ", ".join(f"{name} {_counts(found)}" for name, found in result["identical_texts"].items())
        + "; ties "
        + ", ".join(f"{name} {count}" for name, count in result["ties"].items()),
        *(
            f"{name} parts from {result['first']} at choices of probability "
            + ", ".join(f"{a} and {b}" for a, b in found[:8])
            for name, found in result["partings"].items()
            if found
        ),
        *(f"{name} writes the engine's texts: {_counts(f)}" for name, f in result["same_text_as_engine"].items()),
        f"mask and choice: {result['mask_and_choice_ms_per_sampled_token']} ms a sampled token; with the tokens that follow "
        f"from it {result['rows'][result['first']]['choose_ms_per_sampled_token']} ms",
    ]
    for name, found in result["latency"].items():
        lines.append(f"one note, {name}: " + ", ".join(f"{key} {value}" for key, value in found.items()))
    for name, found in result["constrained_against_free"].items():
        lines.append(
            f"{name}: {found['tokens_per_second']} tokens/s with grammars, {found['free_tokens_per_second']} without "
            f"({found['free_tokens']} of {found['tokens']} tokens)"
        )
    if server := result.get("llama_server"):
        lines += [server["error"]] if "error" in server else [
            "the looser grammar, as many slots:",
            *_rows(server["rows"]),
            f"engine against llama-server {_times(server['speedup'])} by notes, {_times(server['speedup_by_tokens'])} by tokens; "
            f"texts {_counts(server['same_text_as_engine'])}",
        ]  # fmt: skip
    for name, found in result.get("memory", {}).items():
        lines.append(
            f"memory, {name}: before {found['before_mb']}, opened {found['opened_mb']} MB, of it KV {found['kv_mb']}"
            + (f"; {found['growth_mb']:+} MB over {found['notes']} notes" if "notes" in found else "")
        )
    if quality := result.get("quality"):
        scores = {name: found["items"]["all"] for name, found in quality.items() if name != "error"}
        shown = [f"{name} name F1 {found['name_f1']}, strict F1 {found['strict_f1']}" for name, found in scores.items()]
        lines.append("quality: " + ("; ".join(shown) or quality["error"]))
    return "\n".join(lines)


def _rows(rows: dict[str, dict[str, Any]]) -> list[str]:
    columns = {head: key for head, key in _COLUMNS.items() if any(key in one for one in rows.values())}
    lines = [f"{'':18}" + "".join(f"{head:>13}" for head in columns)]
    for name, one in rows.items():
        lines.append(f"{name:18}" + "".join(f"{one.get(key, '')!s:>13}" for key in columns.values()))
    return lines


def _times(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2f} times"


def _counts(found: dict[str, int]) -> str:
    of = sum(found.values())
    cut = f" and {found['as_far_as_both_go']} as far as both go" if found["as_far_as_both_go"] else ""
    return f"{found['equal']}{cut} of {of}"
