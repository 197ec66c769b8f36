"""The frozen Pydantic value that every schema derives from."""

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """Immutable, hashable where its fields are, and closed: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
