"""The published contract: a schema of every message, the AsyncAPI document and the table of commands.

All of it follows from the code; what is committed is what others build against, see `compatibility`.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import yaml

from prm_es.aggregates.catalogue import COMMANDS, EVENTS
from prm_es.schemas import envelopes, models, tables
from prm_es.schemas.asyncapi import asyncapi

_FOLDERS = ("commands", "events")  # hold generated files only


def documents() -> dict[str, str]:
    """Give the text of every file by its path below the folder."""
    schemas = {
        **{f"commands/{wire}": models.command_schema(wire) for wire in COMMANDS},
        **{f"events/{wire}": models.event_schema(wire) for wire in EVENTS},
        "command": envelopes.structured_command(),
        "result": envelopes.result(),
        "dead-letter": envelopes.dead_letter(),
    }
    return {
        **{f"{path}.json": _json(schema) for path, schema in schemas.items()},
        "asyncapi.yaml": _yaml(asyncapi()),
        "commands.md": tables.commands(),
    }


def generate(folder: Path) -> int:
    """Write every file, remove those of messages that are gone, and give the number of files."""
    made = documents()
    for path in _stale(folder, made):
        (folder / path).unlink()
    for path, text in made.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    return len(made)


def drift(folder: Path) -> list[str]:
    """Give one line for each file that is not as it should be."""
    made = documents()
    return sorted([*_differing(folder, made), *(f"{path}: no longer generated" for path in _stale(folder, made))])


def read(folder: Path) -> dict[str, str]:
    """Give the text of every generated file that a folder holds."""
    patterns = ("*.json", "*.yaml", "*.md", *(f"{name}/*.json" for name in _FOLDERS))
    paths = (path for pattern in patterns for path in folder.glob(pattern))
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def _differing(folder: Path, made: dict[str, str]) -> Iterator[str]:
    held = read(folder)
    for path, text in made.items():
        if path not in held:
            yield f"{path}: missing"
        elif held[path] != text:
            yield f"{path}: differs"


def _stale(folder: Path, made: dict[str, str]) -> list[str]:
    return sorted(path for path in read(folder) if "/" in path and path not in made)


def _json(schema: models.Schema) -> str:
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


class _Plain(yaml.SafeDumper):
    """Writes a repeated part again instead of pointing to it."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def _yaml(document: models.Schema) -> str:
    return yaml.dump(document, Dumper=_Plain, sort_keys=True, allow_unicode=True, width=120)
