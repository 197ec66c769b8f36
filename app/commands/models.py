"""`hyojun models` and `hyojun models check`: which models are configured, what they take, and whether they work."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.commands import quiet, read_settings
from app.errors import HyojunError

if TYPE_CHECKING:
    from app.generation.inspection import Description, Room, Trial
    from app.generation.registry import Registry

models = typer.Typer(help="The base model and the use cases: what is configured, and whether it works.")

_Json = Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")]


@models.callback(invoke_without_command=True)
def list_models(context: typer.Context, as_json: _Json = False) -> None:
    """Lists the base model and the use cases of MODELS_FILE (or MODEL_PATH), from the headers of their files.

    No model is opened. Exit status 1 when a file is missing or cannot be used for what it is named for.
    """
    if context.invoked_subcommand is not None:
        return
    settings = read_settings()
    quiet(settings)
    from app.generation.context import gpus
    from app.generation.inspection import describe, room
    from app.generation.registry import configured

    registry = configured(settings)
    found = describe(registry, settings)
    rooms = room(found, settings, gpus())
    calibrations = _calibrations(registry, found)
    _show(registry.source, found, rooms, None, calibrations, as_json)
    _end([*(f"{one.name}: {one.problem}" for one in found if one.problem), *_unfit(calibrations)])


@models.command()
def check(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="base, uc1 …; default: all.")] = None,
    as_json: _Json = False,
) -> None:
    """Opens each model, checks vocabulary or chat template and adapter, and generates a few tokens under a grammar.

    Needs the memory of the models beside that of running workers, which hold their own. Exit status 1 when something is
    wrong; what to do is said.
    """
    settings = read_settings()
    quiet(settings)
    from app.generation.context import gpus
    from app.generation.inspection import describe, room, try_out
    from app.generation.registry import Models, configured
    from app.report import console

    registry = configured(settings)
    chosen = {registry.get(name).name for name in names or registry.entries}
    found = [one for one in describe(registry, settings) if one.name in chosen]
    devices = gpus()
    rooms = room(found, settings, devices)
    faults = [f"{one.name}: {one.problem}" for one in found if one.problem]
    if settings.model_gpu_layers and not devices:
        faults.append(
            f"MODEL_GPU_LAYERS={settings.model_gpu_layers}, and the engine finds no GPU: it is built for the CPU "
            "(`make setup CUDA=1`), or the driver is not reached (`nvidia-smi`)"
        )
    faults += [_short(one) for one in rooms if not one.enough]
    trials: list[Trial] = []
    # What does not fit would be ended by the kernel, and may take a worker with it.
    if all(one.enough for one in rooms):
        opened = Models(registry, settings)
        try:
            with console(stderr=True).status("opening and trying"):
                trials = list(try_out(opened, tuple(one.name for one in found if not one.problem)))
        finally:
            opened.close()
    faults += [f"{trial.name}: {trial.problem}" for trial in trials if trial.problem]
    calibrations = _calibrations(registry, found)
    faults += _unfit(calibrations)
    _show(registry.source, found, rooms, trials, calibrations, as_json)
    _end(faults)


@dataclass(frozen=True)
class _Calibration:
    """That of a use case, and what is wrong with it."""

    name: str
    file: Path
    problem: str | None


def _calibrations(registry: "Registry", found: "Sequence[Description]") -> list[_Calibration]:
    from app.confidence import Calibration

    listed: list[_Calibration] = []
    for one in found:
        file = registry.entries[one.name].calibration
        if file is None or one.fingerprints is None:
            continue
        problem = None
        try:
            if not Calibration.load(file).fits(one.fingerprints.as_dict()):
                problem = "was fitted for another model and is not applied; fit it anew (`python -m training.calibrate`)"
        except HyojunError as error:
            problem = str(error)
        listed.append(_Calibration(one.name, file, problem))
    return listed


def _unfit(calibrations: Sequence[_Calibration]) -> list[str]:
    return [f"{one.name}: the calibration {one.file.name}: {one.problem}" for one in calibrations if one.problem]


def _short(room: "Room") -> str:
    return (
        f"{room.place}: {_size(room.needed)} needed, {_size(room.free)} free, so nothing was opened; end what else uses it (a "
        "running worker holds its own models), or lower MODEL_SLOTS or MODEL_CONTEXT_TOKENS, or MODEL_KV_TYPE=q8_0"
    )


def _end(faults: Iterable[str]) -> None:
    from app.report import console

    messages = console(stderr=True)
    wrong = list(faults)
    for fault in wrong:
        messages.print(fault, markup=False, soft_wrap=True)
    if wrong:
        raise typer.Exit(1)


def _show(
    source: str,
    found: "Sequence[Description]",
    rooms: "Sequence[Room]",
    trials: "Sequence[Trial] | None",
    calibrations: Sequence[_Calibration],
    as_json: bool,
) -> None:
    if as_json:
        shown: dict[str, Any] = {"source": source, "models": [asdict(one) for one in found]}
        shown["memory"] = [asdict(room) for room in rooms]
        shown["calibrations"] = [asdict(one) for one in calibrations]
        if trials is not None:
            shown["trials"] = [asdict(trial) for trial in trials]
        typer.echo(json.dumps(shown, default=str, ensure_ascii=False, indent=2))
        return
    from rich.box import SIMPLE
    from rich.table import Table

    from app.report import console

    out = console()
    table = Table(box=SIMPLE if out.is_terminal else None)
    table.add_column("name", no_wrap=True)
    for column in ("file", "adapter", "model", "form", "prompt", "slots × context", "cache", "fingerprint", "status"):
        table.add_column(column, overflow="fold")
    tried = {trial.name: trial for trial in trials or ()}
    for one in found:
        prints = one.fingerprints
        table.add_row(
            one.name,
            f"{one.file.name} {_size(one.size)}" if one.size else one.file.name,
            one.adapter.name if one.adapter else "",
            f"{one.architecture} {one.quantization}".strip(),
            one.form,
            one.prompt or "",
            f"{one.slots} × {one.context_tokens}" + (f" (trained {one.trained_tokens})" if one.trained_tokens else ""),
            _size(one.kv_bytes) if one.kv_bytes else "",
            f"{prints.model}{f' + {prints.adapter}' if prints.adapter else ''}" if prints else "",
            _status(one, tried.get(one.name)),
        )
    out.print(table)
    for calibration in calibrations:
        fits = "wrong, see below" if calibration.problem else "fits its model"
        out.print(f"calibration of {calibration.name}: {calibration.file.name}, {fits}", markup=False, soft_wrap=True)
    out.print(f"{source}   " + "   ".join(f"{r.place}: {_size(r.needed)} needed, {_size(r.free)} free" for r in rooms),
              markup=False, soft_wrap=True)  # fmt: skip


def _status(one: "Description", trial: "Trial | None") -> str:
    if one.problem or (trial and trial.problem):
        return "wrong, see below"
    return f"works: {trial.tokens} tokens in {trial.seconds:.1f} s" if trial else "ok"


def _size(count: int) -> str:
    """Bytes in binary units, three digits."""
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
