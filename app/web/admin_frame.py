"""The frame of the pages for administration, batches, dashboards and traces: sections by right, times, and what went wrong."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from app.errors import HyojunError, InvalidInput
from app.web.admin_words import complaint
from app.web.outcome import Refused, status_of
from app.web.rendered import language_of, rendered
from schemas.access import Principal, Right
from schemas.batch import JAPAN

SECTIONS = (
    ("/admin/users", "users", Right.USERS),
    ("/admin/clients", "clients", Right.CLIENTS),
    ("/admin/terminology", "terminology", Right.TERMINOLOGY_WRITE),
    ("/admin/system", "system", Right.USERS),
    ("/admin/audit", "audit", Right.AUDIT),
)
"""Path, word and right of each part of administration."""
NOTICES = ("saved",)
"""What a page that a form leads back to may say: `?done=`."""

Failure = HyojunError | Refused


def framed(
    request: Request, who: Principal, name: str, values: Mapping[str, Any], *, error: Failure | None = None
) -> Response:
    """The template `name`; `error`: why what the reader wanted was not done, with its status."""
    language = language_of(request)
    done = request.query_params.get("done", "")
    known = {
        "sections": [(path, word) for path, word, right in SECTIONS if who.has(right)],
        "notice": done if done in NOTICES and error is None else "",
        "error": None if error is None else {"words": complaint(str(error), language), "english": str(error)},
        "moment": moment,
        "refresh": None,
    }
    return rendered(request, who, name, {**known, **values}, status=200 if error is None else status_for(error))


def status_for(error: Failure) -> int:
    return error.status if isinstance(error, Refused) else status_of(error)


def back_to(path: str, done: str = "saved") -> Response:
    """After a form: the page anew, by GET."""
    return RedirectResponse(f"{path}?done={done}" if done else path, 303)


def moment(at: datetime | None) -> str:
    """In Japan's time, to the minute."""
    return "" if at is None else at.astimezone(JAPAN).strftime("%Y-%m-%d %H:%M")


def ticked(form: Mapping[str, str], prefix: str) -> tuple[str, ...]:
    """The boxes `<prefix>.<value>` that were ticked."""
    return tuple(name.removeprefix(f"{prefix}.") for name in form if name.startswith(f"{prefix}."))


def day(written: str, what: str) -> datetime | None:
    """The begin of a day in Japan. Raises: InvalidInput."""
    if not written:
        return None
    try:
        return datetime.strptime(written, "%Y-%m-%d").replace(tzinfo=JAPAN)
    except ValueError:
        raise InvalidInput(f"{what}: must be a day as 2026-04-01") from None
