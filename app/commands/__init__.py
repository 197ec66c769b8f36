"""Groups of the command line, one module each; `app.cli` puts them together."""

from pydantic import ValidationError

from app.errors import InvalidInput
from app.settings import Settings


def read_settings() -> Settings:
    """Raises: InvalidInput; the message names variables and never shows a value (it may be a password)."""
    try:
        return Settings()
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        faults = "; ".join(f"{'.'.join(str(part) for part in d['loc']).upper()}: {d['msg']}" for d in details)
        raise InvalidInput(f"settings: {faults}") from None
