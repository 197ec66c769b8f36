"""A sender in a process of its own: `push_process.py <database> <folder of secrets>`."""

import sys
from pathlib import Path

from app.db import Database
from app.outgoing import Secrets
from app.pusher import Sender
from schemas.push import PushPolicy

if __name__ == "__main__":
    policy = PushPolicy(interval_seconds=0.05, timeout_seconds=30.0)
    Sender(Database(sys.argv[1]), Secrets(Path(sys.argv[2])), policy).run()
