"""The generation engine against Outlines, and against llama-server: `python -m bench.engine` (`--help` lists the rest).

    python -m bench.engine                                        the shipped model, the sample notes
    python -m bench.engine --random-weights tiny-152k             the costs around a model with a large vocabulary
    python -m bench.engine --random-weights qwen2.5-72b --gpu-layers -1 --slots 1,4,16,32 --bandwidth 4800
    python -m bench.engine --baselines generator,processor,llama-server=/path/to/llama-server

Every way gets the same prompts, grammars, threads and context, and is greedy. Where the models fit into memory together,
the ways take turns, so that noise hits all alike; figures are medians over `--repeat` turns. A large model, or one on a
GPU, is opened by one way after the other (`--in-turn`). With random weights outputs end after `--max-tokens`.

Prints a table, writes bench/results/engine-NAME.json and prints the same JSON object as its last line.
"""

import argparse
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from app.generation.context import Memory
from app.generation.llama import LlamaCpp
from app.generation.reader import NoteReader
from app.generation.registry import SWITCH
from app.intake import read_notes
from app.terminology.entries import starter_entries, starter_version
from app.terminology.matching import Lexicon
from bench import engine_facts as facts
from bench.engine_paths import (
    BACKEND,
    OurEngine,
    OutlinesGenerator,
    OutlinesProcessor,
    Round,
    Work,
    Writer,
    open_llama,
    prepare,
)
from bench.llama_server import LlamaServer, loose_lark
from bench.random_weights import QUANTS, SHAPES, cached
from schemas.note import ChartNote

ROOT = Path(__file__).resolve().parents[1]
GOLD = ROOT.parent / "shared/eval/dev/notes.jsonl"
_LARGE_FILE = 2**31
"""Bytes from which a model is opened by one way at a time."""
_FEW_NOTES = 4
_MEMORY_CHARACTERS = 100


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--model", type=Path, default=ROOT / "weights/hyojun-uc1.gguf")
    which.add_argument("--random-weights", choices=SHAPES, help="a GGUF of this shape, made once and kept")
    add("--quant", choices=QUANTS, default=QUANTS[0], help="types of the random weights")
    add("--work", type=Path, default=Path(tempfile.gettempdir()) / "hyojun-bench", help="where those files are kept")
    add("--eval", type=Path, help="folder with notes.jsonl instead of samples/")
    add("--notes", type=int, help="only so many notes")
    add("--generator-notes", type=int, default=_FEW_NOTES, help="notes for `generator`, which is slow")
    add("--slots", default="1,4,8,16")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)))
    add("--lanes", type=int, help="KV caches that decode side by side; without it the engine's own choice")
    add("--gpu-layers", type=int, default=0, help="-1: all")
    own = "auto: the engine's and the baselines' own defaults"
    add("--kv-type", choices=("auto", "f32", "f16", "bf16", "q8_0", "q4_0"), default="auto", help=own)
    add("--flash-attention", choices=("auto", "on", "off"), default="auto", help=own)
    add("--unified", choices=SWITCH, default="auto", help="one KV cache for all sequences; auto: the engine's own default")
    add("--context", type=int, help="tokens of one sequence; the file's own length, at most 4096")
    add("--repeat", type=int, default=5)
    add("--max-tokens", type=int, help="cuts every output; 200 with random weights")
    add("--baselines", default="generator,processor", help="and llama-server=PATH; a and b are short for the first two")
    add("--in-turn", action=argparse.BooleanOptionalAction, help="open the model by one way at a time")
    add("--memory-notes", type=int, help="notes over which memory may not grow; 1000 for a small model, 0: leave out")
    add("--bandwidth", type=float, help="of the machine's memory in GB/s, for the share of it that weights take")
    add("--quality", action="store_true", help=f"scores of {GOLD.name} by `processor` and by the engine")
    add("--out", type=Path)
    add("--probe", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    # llguidance calls llama.cpp by an old name, once for every token.
    warnings.filterwarnings("ignore", "llama_token_get_attr is deprecated", DeprecationWarning)
    args = _arguments(arguments)
    if args.probe:
        print(json.dumps(facts.probe(json.loads(args.probe), lambda model: _works(model, args, _MEMORY_CHARACTERS))))
        return
    name = f"{args.random_weights}-{args.quant}" if args.random_weights else args.model.stem
    if args.random_weights:
        _say(f"random weights {name} in {args.work}")
    path = cached(args.random_weights, args.quant, args.work) if args.random_weights else args.model
    result = {"name": name, "machine": facts.machine(), **Bench(args, path).run()}
    result["machine"]["load_after"] = os.getloadavg()[0]
    target = args.out or ROOT / f"bench/results/engine-{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(facts.table(result))
    print(json.dumps(result))


class Bench:
    """One run. `works`: the notes as prompts and grammars, made by the first engine that is open."""

    def __init__(self, args: argparse.Namespace, path: Path) -> None:
        self.args = args
        self.path = path
        self.slots = sorted({int(slots) for slots in args.slots.split(",")})
        aliases = {"a": "generator", "b": "processor"}
        wanted = (part.partition("=") for part in args.baselines.split(",") if part)
        self.baselines = {aliases.get(name, name): value for name, _, value in wanted}
        if unknown := self.baselines.keys() - {"generator", "processor", "llama-server"}:
            sys.exit(f"unknown baselines: {', '.join(unknown)}")
        self.max_tokens = args.max_tokens or (200 if args.random_weights else None)
        own, self.vocabulary = facts.context_and_vocabulary(path)
        self.context = args.context or min(own, 4096)
        size = path.stat().st_size
        self.in_turn = args.in_turn if args.in_turn is not None else size > _LARGE_FILE or args.gpu_layers != 0
        self.small = size < 200e6
        self.works: list[Work] = []
        self.rounds: dict[str, list[Round]] = {}
        self.latency = facts.Latency()
        self.free: dict[str, dict[str, Any]] = {}

    def memory(self, slots: int) -> Memory:
        args = self.args
        return Memory(
            sequence_tokens=self.context, slots=slots, unified=SWITCH[args.unified],
            kv_type=None if args.kv_type == "auto" else args.kv_type,
            flash_attention=SWITCH[args.flash_attention], threads=args.threads, lanes=args.lanes, gpu_layers=args.gpu_layers,
        )  # fmt: skip

    def run(self) -> dict[str, Any]:
        engines: list[Callable[[], list[Writer]]] = [partial(self._engines, n) for n in self.slots]
        outlines = [self._outlines] if self.baselines.keys() & {"generator", "processor"} else []
        groups = [[one] for one in [*engines, *outlines]] if self.in_turn else [[*engines, *outlines]]
        for group in groups:
            writers = [writer for opened in group for writer in opened()]
            try:
                self._measure(writers)
            finally:
                for writer in writers:
                    writer.close()
        result = self._result()
        if "llama-server" in self.baselines:
            result["llama_server"] = self._llama_server(Path(self.baselines["llama-server"]))
        if self.args.memory_notes != 0:
            result["memory"] = self._memory()
        if self.args.quality:
            result["quality"] = self._quality()
        return result

    # -- opening ----------------------------------------------------------------------------------------------

    def _engines(self, slots: int) -> list[Writer]:
        _say(f"opening the engine with {slots} slots")
        engine = OurEngine(self.path, self.memory(slots), self.max_tokens)
        self.works = self.works or _works(engine.model, self.args)
        return [engine]

    def _outlines(self) -> list[Writer]:
        _say("opening Outlines")
        llama = open_llama(self.path, self.memory(1))
        made: list[Writer] = []
        if "generator" in self.baselines:
            made.append(OutlinesGenerator(llama, self.max_tokens))
        if "processor" in self.baselines:
            made.append(OutlinesProcessor(llama, self.max_tokens))
        return made

    # -- measuring --------------------------------------------------------------------------------------------

    def _measure(self, writers: list[Writer]) -> None:
        order = sorted(writers, key=lambda writer: isinstance(writer, OurEngine))
        for turn in range(self.args.repeat):
            for writer in order:
                done = writer.run(self._share(writer))
                self.rounds.setdefault(writer.name, []).append(done)
                _say(f"turn {turn + 1} of {self.args.repeat}: {writer.name} {done.seconds:.2f} s")
        engines = [writer for writer in writers if isinstance(writer, OurEngine)]
        processors = [writer for writer in writers if isinstance(writer, OutlinesProcessor)]
        chosen = [engine for engine in engines if engine.slots in (self.slots[0], self.slots[-1])]
        # Notes follow one another, as in the work of a ward: no prompt but its beginning is in the cache.
        tasks = [work.tasks[0] for work in self.works][: 2 * _FEW_NOTES]
        for turn in range(self.args.repeat):
            for number, task in enumerate(tasks):
                for engine in chosen:
                    self.latency.engine(engine, number, task)
                for processor in processors:
                    self.latency.processor(processor, number, task)
            _say(f"latency {turn + 1} of {self.args.repeat}")
        for engine in chosen:
            self.free[engine.name] = facts.against_free_text(engine, self.works, self.args.repeat)
            _say(f"{engine.name}: with and without a grammar")

    def _share(self, writer: Writer) -> list[Work]:
        """The notes of `writer`: for `generator` perhaps a few, evenly spread over the lengths."""
        if writer.name != "generator":
            return self.works
        return [self.works[number] for number in self._few()]

    def _few(self) -> list[int]:
        count = min(len(self.works), self.args.generator_notes)
        by_length = sorted(range(len(self.works)), key=lambda number: self.works[number].prompt_tokens)
        return sorted(by_length[(2 * n + 1) * len(by_length) // (2 * count)] for n in range(count))

    # -- results ----------------------------------------------------------------------------------------------

    def _result(self) -> dict[str, Any]:
        rows = {name: facts.row(rounds, self.path, self.args.bandwidth) for name, rounds in self.rounds.items()}
        names = [f"engine-{slots}" for slots in self.slots]
        best = min(names, key=lambda name: rows[name]["ms_per_note"])
        fastest = rows[best]["ms_per_note"]
        processor = rows["processor"]["ms_per_note"] / fastest if "processor" in rows else None
        generator = None
        if "generator" in rows:
            generator = rows["generator"]["ms_per_note"] / fastest
            few = self._few()
            if len(few) < len(self.works) and processor is not None:
                # Few notes are no fair sample of all: how much slower than `processor` it is on the same notes counts.
                paired = [sum(one.each[n] for n in few) / len(few) for one in self.rounds["processor"]]
                generator = rows["generator"]["ms_per_note"] / (1000 * median(paired)) * processor
        reference = self.rounds[names[0]][0]
        same = {name: facts.agreement(reference, self.rounds[name]) for name in names}
        one = rows[names[0]]
        return {
            "first": names[0],
            "settings": {
                "file": self.path.name, "file_bytes": self.path.stat().st_size, "context": self.context,
                "threads": self.args.threads, "gpu_layers": self.args.gpu_layers, "kv_type": self.memory(1).cache_type,
                "baselines_kv_type": "f16" if self.args.kv_type == "auto" else self.args.kv_type,
                "flash_attention": self.args.flash_attention, "unified": self.memory(1).shared_room, "repeat": self.args.repeat,
                "max_tokens": self.max_tokens, "backend": BACKEND, "in_turn": self.in_turn,
                "vocabulary": self.vocabulary,
            },
            "notes": len(self.works),
            "windows": sum(len(work.tasks) for work in self.works),
            "prompt_tokens": sum(work.prompt_tokens for work in self.works),
            "rows": rows,
            "best": best,
            "speedup_vs_generator": facts.rounded(generator),
            "speedup_vs_processor": facts.rounded(processor),
            "identical_across_slots": all(found["different"] == 0 for found in same.values()) if len(names) > 1 else None,
            "identical_texts": same,
            "partings": {name: facts.partings(reference, self.rounds[name]) for name in names},
            "ties": {name: facts.ties(self.rounds[name][0]) for name in names},
            "same_text_as_engine": {
                name: facts.agreement(facts.part(reference, self._few()) if name == "generator" else reference, rounds)
                for name, rounds in self.rounds.items()
                if name not in names
            },
            "mask_and_choice_ms_per_sampled_token": one["sample_ms_per_sampled_token"],
            "latency": self.latency.medians(),
            "constrained_against_free": self.free,
        }  # fmt: skip

    def _llama_server(self, program: Path) -> dict[str, Any]:
        if not program.is_file():
            return {"error": f"{program} is not there"}
        memory = self.memory(self.slots[-1])
        engine = OurEngine(self.path, memory, self.max_tokens)
        loose = [facts.with_grammar(work, loose_lark) for work in self.works]
        rounds: dict[str, list[Round]] = {}
        try:
            server = LlamaServer(program, self.path, memory, self.max_tokens, engine.model)
            try:
                for turn in range(self.args.repeat):
                    for writer, works in ((server, self.works), (engine, loose)):
                        done = writer.run(works)
                        rounds.setdefault(writer.name, []).append(done)
                        _say(f"turn {turn + 1} of {self.args.repeat}: {writer.name} {done.seconds:.2f} s")
            finally:
                server.close()
        except RuntimeError as error:
            return {"error": str(error)}
        finally:
            engine.close()
        rows = {name: facts.row(made, self.path, self.args.bandwidth) for name, made in rounds.items()}
        theirs, ours = rows[server.name], rows[engine.name]
        return {
            "rows": rows,
            "speedup": facts.rounded(theirs["ms_per_note"] / ours["ms_per_note"]),
            "speedup_by_tokens": facts.rounded(ours["tokens_per_second"] / theirs["tokens_per_second"]),
            "same_text_as_engine": facts.agreement(rounds[engine.name][0], rounds[server.name]),
        }

    def _memory(self) -> dict[str, Any]:
        notes = self.args.memory_notes if self.args.memory_notes is not None else 1000 if self.small else 0
        found = {}
        # A process of its own for each: memory that another one has freed would count for it.
        for slots in dict.fromkeys((self.slots[0], self.slots[-1])):
            _say(f"memory with {slots} slots" + (f", {notes} notes" if slots == self.slots[-1] and notes else ""))
            wanted = {
                "path": str(self.path),
                "memory": facts.memory_dict(self.memory(slots)),
                "notes": notes if slots == self.slots[-1] else 0,
                "max_tokens": self.max_tokens,
            }
            options = [f"--{key}={value}" for key in ("eval", "notes") if (value := getattr(self.args, key))]
            found[f"engine-{slots}"] = facts.probe_in_process(wanted, options)
        return found

    def _quality(self) -> dict[str, Any]:
        scorer = GOLD.parents[1] / "score.py"
        if not (GOLD.is_file() and scorer.is_file()):
            return {"error": f"{GOLD} or its scorer is not there"}
        _say("quality: the engine, then `processor`")
        return facts.quality(self.path, self.memory(self.slots[-1]), GOLD, scorer)


def _works(model: LlamaCpp, args: argparse.Namespace, characters: int | None = None) -> list[Work]:
    """`characters`: notes end behind the line that reaches so many."""
    reader = NoteReader(model)
    lexicon = Lexicon(starter_entries(), starter_version())
    found = []
    for note in _notes(args.eval)[: args.notes]:
        if characters is not None and (end := note.text.find("\n", characters)) > 0:
            note = note.model_copy(update={"text": note.text[:end]})
        mentions = [(m.start, m.end, m.kind) for m in lexicon.find_mentions(note.text)]
        found.append(prepare(reader, note, mentions))
    return found


def _notes(folder: Path | None) -> list[ChartNote]:
    files = [folder / "notes.jsonl"] if folder else sorted((ROOT / "samples").glob("*.json"))
    found = []
    for file in files:
        for line in read_notes(file):
            if line.note is None:
                sys.exit(f"{file}, line {line.number}: {line.error}")
            found.append(line.note)
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
