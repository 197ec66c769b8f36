"""Child processes that never outlive us, not even when we are killed with SIGKILL.

Each child runs under a small supervisor process (this file, run as a script) that holds the read end of a pipe. When
the pipe closes, because `stop` closed it or because we are gone, the supervisor sends the child its stop signal, and
after a grace period SIGKILL to its process group. The kernel's own PR_SET_PDEATHSIG alone would not do: it fires when
the *thread* that started the child ends, and gives no grace period; it is the second net, for a killed supervisor.

This file imports nothing outside the standard library, so that a supervisor starts in milliseconds.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any, NoReturn, Self

PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Supervised:
    """A running child; start it with the constructor, use it as a context manager to stop it at the end.

    `stop_signal` asks it to end, `grace_seconds` later it is killed with its process group. `account`: (uid, gid) to
    run as, for a parent that is root. Output goes to `output`, default: our own stderr. A program that cannot be run
    shows as exit status 1.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace_seconds: float = 20.0,
        account: tuple[int, int] | None = None,
        output: IO[Any] | None = None,
    ) -> None:
        self.grace_seconds = grace_seconds
        order = {
            "argv": [str(part) for part in argv],
            "signal": int(stop_signal),
            "grace_seconds": grace_seconds,
            "account": account,
        }
        out: Any = output if output is not None else sys.stderr.fileno()
        # -I -S: the supervisor must not depend on the environment it passes on. Its own session keeps a Ctrl-C of the
        # terminal to us, who then stop the children in order.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
            env=dict(env) if env is not None else None,
            cwd=cwd,
            start_new_session=True,
        )

    def poll(self) -> int | None:
        """The child's exit status, negative for a signal as in `subprocess`; None while it runs."""
        code = self._process.poll()
        return code if code is None or code < 128 else 128 - code

    def wait(self, timeout_seconds: float | None = None) -> int:
        """Raises: subprocess.TimeoutExpired."""
        self._process.wait(timeout_seconds)
        code = self.poll()
        assert code is not None
        return code

    def request_stop(self) -> None:
        """Asks the child to end and does not wait; several children can so end side by side."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()

    def stop(self) -> int:
        """Asks the child to end, waits for it (at most the grace period and a little), and returns its exit status."""
        self.request_stop()
        try:
            return self.wait(self.grace_seconds + 10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()


def _die_with_supervisor(stop_signal: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, stop_signal, 0, 0, 0)


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def _supervise(order: dict[str, Any]) -> NoReturn:
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, ask)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)

    stop_signal, account = order["signal"], order["account"]
    identity: dict[str, Any] = {"user": account[0], "group": account[1], "extra_groups": []} if account else {}
    child = subprocess.Popen(
        order["argv"],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: _die_with_supervisor(stop_signal),  # noqa: PLW1509 - the supervisor has one thread
        **identity,
    )
    watched = [0, wake_read]
    kill_at: float | None = None
    while (code := child.poll()) is None:
        timeout = None if kill_at is None else max(0.0, kill_at - time.monotonic())
        ready = select.select(watched, [], [], timeout)[0]
        if wake_read in ready:
            os.read(wake_read, 512)
        if 0 in ready and not os.read(0, 512):
            watched.remove(0)
            asked.append(0)
        if asked and kill_at is None:
            child.send_signal(stop_signal)
            kill_at = time.monotonic() + order["grace_seconds"]
        elif kill_at is not None and time.monotonic() >= kill_at:
            _kill_group(child.pid)
            kill_at = time.monotonic() + 1.0
    _kill_group(child.pid)  # what a killed child has left behind, e.g. the pool processes of a worker
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    _supervise(json.loads(sys.argv[1]))
