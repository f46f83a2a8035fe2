"""The keys of saved runs, where a field has been renamed since: a file keeps the key it was first written with."""

from __future__ import annotations

import dataclasses
from collections.abc import Container
from typing import Any

SAVED_AS = {  # field in the code: key in a file
    "net": "size", "hidden_size": "width", "block": "mix", "puzzle_emb_size": "puzzle_width",
    "multiple_of": "multiple", "grad": "tape", "short_fraction": "brief", "device_steps": "resident",
}  # fmt: skip
FIELD_OF = {key: field for field, key in SAVED_AS.items()}


def field_of(key: str, known: Container[str]) -> str:
    """The field that a saved key or a command line means: its name in the code, or the name it is saved under."""
    field = FIELD_OF.get(key, key)
    return field if key not in known and field in known else key


def saved(value: Any) -> Any:
    """A dataclass as plain JSON, each field under the name it is saved under."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {SAVED_AS.get(f.name, f.name): saved(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: saved(item) for key, item in value.items()}
    return [saved(item) for item in value] if isinstance(value, (list, tuple)) else value
