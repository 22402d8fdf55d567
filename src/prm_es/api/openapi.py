"""The OpenAPI document, as it is published with the other schemas."""

import json
from pathlib import Path
from typing import Any, Final

from prm_es.api.app import create_app
from prm_es.settings import Settings

FILE: Final = "openapi.json"


def document() -> dict[str, Any]:
    """Give the document of the whole HTTP side; nothing is connected for it."""
    made = create_app(Settings.model_construct()).openapi()
    made["info"]["version"] = "1"  # of the contract, not of the program
    return made


def text() -> str:
    """Give the document as it stands in its file."""
    return json.dumps(document(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def generate(folder: Path) -> None:
    """Write the file."""
    (folder / FILE).write_text(text(), encoding="utf-8")


def drift(folder: Path) -> list[str]:
    """Give a line if the file is not as it should be."""
    path = folder / FILE
    if not path.exists():
        return [f"{FILE}: missing"]
    return [] if path.read_text(encoding="utf-8") == text() else [f"{FILE}: differs"]
