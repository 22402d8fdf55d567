"""The pages for readers, operators and extenders name what there is, and their examples run."""

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from prm_es.cli import app
from prm_es.install import install
from prm_es.projections.registry import READ_MODELS
from prm_es.projections.sql import run_sql
from prm_es.settings import Settings

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {name: (DOCS / f"{name}.md").read_text(encoding="utf-8") for name in ("readers", "operators", "extenders")}
QUERIES = [shlex.split(line)[2] for line in re.findall(r"^prm-es sql .*$", PAGES["readers"], re.MULTILINE)]


def test_readers_are_told_every_view_and_none_that_is_not_there() -> None:
    views = {view for model in READ_MODELS.values() for view in model.views}
    assert set(re.findall(r"\| `read\.(\w+)` \|", PAGES["readers"])) == views
    assert set(re.findall(r"\bread\.(\w+)", PAGES["readers"])) == views


@pytest.fixture(scope="module")
def installed(settings: Settings) -> Settings:
    install(settings)
    return settings


@pytest.mark.parametrize("query", QUERIES)
def test_the_queries_for_readers_run(installed: Settings, query: str) -> None:
    columns, _rows = run_sql(installed, query.replace("read.", f"{installed.read_schema}."))
    assert columns


def test_there_are_queries() -> None:
    assert len(QUERIES) > 4


def test_every_setting_is_in_the_table_for_operators_and_no_other() -> None:
    table = PAGES["operators"].partition("## Settings")[2].partition("\n## ")[0]
    named = set(re.findall(r"`PRM_([A-Z_]+)`", table))
    assert named == {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("page", PAGES)
def test_every_verb_and_flag_of_the_page_is_there(page: str) -> None:
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    examples = re.findall(r"^prm-es ([^#|\n]*)", PAGES[page], re.MULTILINE) + re.findall(
        r"`prm-es ([^`…]*)`", PAGES[page]
    )
    assert examples
    for example in examples:
        words = example.split()
        command = root.commands[words[0]]
        if isinstance(command, TyperGroup):
            command = command.commands[words[1]]
        flags = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if re.fullmatch(r"--[a-z-]+", word)} <= flags | {"--help"}, example


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)", PAGES[page]):
        assert (DOCS / target).exists(), target


def test_files_that_extenders_are_sent_to_are_there() -> None:
    root = DOCS.parent
    named = re.findall(r"`((?:src|tests|docs)/[\w./]+)`", PAGES["extenders"])
    assert len(named) > 4
    assert all((root / name).exists() for name in named)
