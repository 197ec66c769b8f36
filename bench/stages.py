"""What a note costs from POST to the answer, stage by stage: `python -m bench.stages [NOTES] [--repeat N]`.

Everything is the product's own: the embedded database, the shipped model, the API (called in this process), the queue's
claims and results. NOTES: JSON Lines or a folder of .json (default: samples/); each is sent `--repeat` times as another note.
CPU milliseconds of this process, those of the model's threads included, and of its server process in PostgreSQL; median a
note. One note at a time: what several notes share in one batch of the model is not in it. Prints a table and writes
bench/results/stages.json.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from fastapi.testclient import TestClient
from sqlalchemy import text

from app import access, jobs
from app.db import Database, migrate
from app.embedded import embedded_postgres
from app.jobs import Policy
from app.main import create_app
from app.pipeline import Converter
from app.settings import Settings
from app.terminology.importers import lexicon_from, load_starter
from bench.fhir import ROOT, notes_of
from schemas.access import RIGHTS, ROLE_SCOPES, Principal, Role, Scope

T = TypeVar("T")
TICKS = os.sysconf("SC_CLK_TCK")


class Costs:
    """CPU of this process and of the database's, by stage."""

    def __init__(self, url: str) -> None:
        # All connections of the API and of the queue come from one pool; what the server did is the sum over its processes.
        self._postmaster = self._find(url)
        self.own: dict[str, list[float]] = defaultdict(list)
        self.server: dict[str, list[float]] = defaultdict(list)
        self.wall: dict[str, list[float]] = defaultdict(list)

    def _find(self, url: str) -> int:
        database = Database(url)
        with database.session_scope() as session:
            backend = int(session.scalar(text("SELECT pg_backend_pid()")) or 0)
        database.dispose()
        return int(Path(f"/proc/{backend}/stat").read_text().rpartition(")")[2].split()[1])

    def _server_ms(self) -> float:
        total = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == self._postmaster or path.parent.name == str(self._postmaster):
                total += int(fields[11]) + int(fields[12])
        return total * 1000 / TICKS

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        before, own, wall = self._server_ms(), time.process_time(), time.perf_counter()
        yield
        self.own[stage].append((time.process_time() - own) * 1000)
        self.wall[stage].append((time.perf_counter() - wall) * 1000)
        self.server[stage].append(self._server_ms() - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notes", type=Path, nargs="?", default=ROOT / "samples")
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hyojun-bench-") as folder:
        Path(folder).chmod(0o755)
        with embedded_postgres(Path(folder)) as url:
            migrate(url)
            rows, sizes = _measure(url, args.notes, args.repeat)
    print(f"{len(sizes)} notes, {statistics.median(sizes):.0f} resources each (median); milliseconds a note, median or mean")
    print(f"{'':34}{'CPU here':>10}{'CPU of PostgreSQL':>20}{'elapsed':>10}")
    for name, row in rows.items():
        print(f"{name:34}{row['own']:10.1f}{row['server']:20.1f}{row['wall']:10.1f}")
    target = ROOT / "bench/results/stages.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({"notes": len(sizes), "stages": rows}, indent=1), encoding="utf-8")


def _measure(url: str, path: Path, repeat: int) -> tuple[dict[str, dict[str, float]], list[int]]:
    settings, database = Settings(database_url=url, _env_file=None), Database(url)
    with database.session_scope() as session:
        load_starter(session)
        lexicon = lexicon_from(session)
        scopes = tuple(scope for written in ROLE_SCOPES[Role.INTEGRATOR] for scope in [Scope.find(written)] if scope)
        who = Principal(id="client:bench", name="bench", scopes=scopes, rights=RIGHTS[Role.INTEGRATOR], drafts=True)
        token = access.issue_token(session, who, seconds=3600)
    converter, costs, sizes = Converter.load(settings, lexicon), Costs(url), []
    reader = converter.reader
    reader.read = _timed(costs, "the model reads the note", reader.read)  # type: ignore[method-assign]
    with TestClient(create_app(settings, database)) as client:
        client.headers["Authorization"] = f"Bearer {token}"
        for turn in range(repeat + 1):
            for note in notes_of(path):
                sent = note.model_dump(mode="json") | {"id": f"{note.id}-{turn}"}
                with costs.of("POST /api/notes"):
                    answer = client.post("/api/notes", json=sent)
                assert answer.status_code == 202, answer.text
                with costs.of("claim"), database.session_scope() as session:
                    claimed = jobs.claim_due(session, "bench", Policy())
                assert claimed is not None
                with costs.of("all of the conversion"):
                    conversion = converter.convert(claimed.note, source=claimed.source)
                with costs.of("result, review, index of searches"), database.session_scope() as session:
                    jobs.complete(session, claimed, conversion)
                with costs.of("GET /api/notes/{id}/bundle"):
                    bundle = client.get(f"/api/notes/{claimed.note_id}/bundle")
                assert bundle.status_code == 200
                sizes.append(len(conversion.resources))
            if turn == 0:  # the first one compiles and fills caches
                for kept in (costs.own, costs.server, costs.wall):
                    kept.clear()
                sizes.clear()
    database.dispose()
    # The server's clock ticks every 10 ms: only the mean says something.
    rows = {
        stage: {
            "own": statistics.median(costs.own[stage]),
            "server": statistics.mean(costs.server[stage]),
            "wall": statistics.median(costs.wall[stage]),
        }
        for stage in costs.own
    }
    return rows, sizes


def _timed(costs: Costs, stage: str, function: Callable[..., T]) -> Callable[..., T]:
    def timed(*args: Any, **kwargs: Any) -> T:
        with costs.of(stage):
            return function(*args, **kwargs)

    return timed


if __name__ == "__main__":
    main()
