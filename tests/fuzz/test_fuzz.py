"""The fuzzer, briefly; and that it would notice."""

from itertools import islice
from typing import Any
from unittest.mock import patch

from prm_es import dispatch as dispatching
from prm_es.messages import read_command
from prm_es.settings import Settings
from tests.fuzz.knocking import knock
from tests.fuzz.making import records
from tests.support import check_log

SECONDS = 120.0


def test_every_bad_input_is_answered_or_a_dead_letter_once(migrated: Settings) -> None:
    tally = knock(migrated, records(1, migrated.command_topics), 4_000, SECONDS)
    assert (tally.crashed, tally.dropped) == ([], [])
    assert tally.answered + tally.dead == 4_000
    assert min(tally.answered, tally.dead) > 1_000
    check_log(migrated)


def test_the_same_seed_gives_the_same_inputs(migrated: Settings) -> None:
    first, second = (list(islice(records(2, migrated.command_topics), 500)) for _ in range(2))
    assert first == second


def test_a_record_that_fells_the_handler_is_named(migrated: Settings) -> None:

    def fragile(headers: Any, value: bytes | None) -> Any:
        if value == b"[]":
            raise ZeroDivisionError
        return read_command(headers, value)

    with patch.object(dispatching, "read_command", fragile):
        tally = knock(migrated, records(3, migrated.command_topics), 500, SECONDS)
    assert tally.crashed
    assert all("ZeroDivisionError" in one for one in tally.crashed)
