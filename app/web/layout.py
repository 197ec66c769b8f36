"""Pages: templates without scripts, every value in them escaped, under a policy that names their style by its hash."""

import base64
import hashlib
import html
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from string import Template

from fastapi import Response
from fastapi.responses import HTMLResponse

from app.web.edge import PAGE_POLICY

_TEMPLATES = Path(__file__).parent / "templates"
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


def fill(name: str, values: Mapping[str, object] | None = None, parts: Mapping[str, str] | None = None) -> str:
    """The template with `values`, escaped, and `parts`, which are HTML already."""
    escaped = {key: html.escape(str(value)) for key, value in (values or {}).items()}
    return _template(name).substitute(escaped | dict(parts or {}))


def page(title: str, body: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`body`: HTML."""
    whole = fill("layout.html", {"title": title}, {"body": body})
    # https://www.w3.org/TR/CSP3/#external-hash: the text between the tags, to the letter.
    hashes = [base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() for style in _STYLE.findall(whole)]
    policy = PAGE_POLICY.format(style=" ".join(f"'sha256-{one}'" for one in hashes))
    return HTMLResponse(whole, status, {"Content-Security-Policy": policy} | dict(headers or {}))


@cache
def _template(name: str) -> Template:
    return Template((_TEMPLATES / name).read_text(encoding="utf-8"))
