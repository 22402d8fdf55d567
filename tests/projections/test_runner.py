"""Whatever way the events take, the rows are those of one pass over the log."""

import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from threading import Barrier, Thread
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from prm_es import rebuild
from prm_es.aggregates.base import Event
from prm_es.aggregates.catalogue import parse_event
from prm_es.errors import SchemaMismatch, TooOld
from prm_es.install import install
from prm_es.messages import Recorded
from prm_es.partitions import partition_of
from prm_es.projections import pipeline
from prm_es.projections.base import ReadModel, Rows
from prm_es.projections.pipeline import MODEL
from prm_es.projections.registry import ORDERED, READ_MODELS
from prm_es.projections.runner import Item, Place, Projector, schema_of
from prm_es.settings import Settings
from tests.projections.generations import (
    Contents,
    as_published,
    checkpoints,
    contents,
    empty_generation,
    live,
    note_published,
    one_pass,
    parked,
    the_log,
)
from tests.projections.stories import LEADS, tell, walked
from tests.support import opening, partner, rows
from tests.test_leads import registration
from tests.workers import append, story, until, write

NAME = "Joana Prado"
PERSON = {"name": NAME, "tax_ids": [{"country": "BR", "value": "111.444.777-35"}]}
SECRET = "Call her about the harvest loan"


FOLDED = {name: model for name, model in READ_MODELS.items() if name not in ORDERED}


@dataclass(frozen=True)
class Given:
    """A log, the same as its topics hold it for a read model, and the rows of one pass over it."""

    settings: Settings
    model: ReadModel
    log: list[Recorded]
    topics: dict[Place, list[Item]]
    rows: Contents

    @property
    def records(self) -> list[Item]:
        """All records in order of position, as a reader of all partitions may get them."""
        return sorted((one for records in self.topics.values() for one in records), key=lambda one: one.event.position)


@pytest.fixture(scope="module")
def given_logs(migrated: Settings) -> dict[str, Given]:
    """Give one log as each read model has it, by name."""
    install(migrated)
    partners, deals = story(40)
    write(migrated, [*partners[:250], *deals])
    seller = partner()
    told = ((PERSON, SECRET), ({"name": "Sul"}, "Ring at the side door"), ({"name": "Norte"}, "Ask for the owner"))
    private = [
        opening(seller.subject, customer=customer, next_action={"text": action, "due_on": "2099-01-01"})
        for customer, action in told
    ]
    write(migrated, [seller, *private])
    for seed, subject in enumerate(LEADS):
        tell(migrated, subject, walked(seed, subject))
    allowed = partner(authorisations=[{"product_line": "scales"}])
    write(migrated, [allowed, registration(allowed.subject, "c-1", customer=PERSON)])
    log = the_log(migrated)
    assert len(log) > 1500
    given = {}
    for name, model in FOLDED.items():
        topics = as_published(migrated, log, model)
        note_published(migrated, topics)
        given[name] = Given(migrated, model, log, topics, one_pass(migrated, model))
    return given


@pytest.fixture(scope="module")
def given_log(given_logs: dict[str, Given]) -> Given:
    return given_logs["pipeline"]


every_model = pytest.mark.parametrize("name", FOLDED)


_numbers = count(1000)


@contextmanager
def fresh(given: Given, model: ReadModel | None = None) -> Iterator[tuple[int, Projector]]:
    """Give an empty generation of the read model and a projector that works on it."""
    with (
        empty_generation(given.settings, next(_numbers), model or given.model) as generation,
        closing(Projector(given.settings, model or given.model, generation)) as projector,
    ):
        yield generation, projector


def applied_one_by_one(projector: Projector, items: list[Item], size: int = 100) -> None:
    for start in range(0, len(items), size):
        projector.apply(items[start : start + size])


# Determinism


@every_model
@examples(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 2**32),
    batch=st.sampled_from([1, 7, 60, 500]),
    lost=st.sampled_from([0.0, 0.05, 0.5]),
    again=st.sampled_from([0.0, 0.3]),
)
def test_any_interleaving_batches_holes_and_duplicates_give_the_rows_of_one_pass(
    given_logs: dict[str, Given], name: str, seed: int, batch: int, lost: float, again: float
) -> None:
    given_log, chance = given_logs[name], random.Random(seed)
    with fresh(given_log) as (generation, projector):
        for items in _deliveries(chance, given_log, batch, lost, again):
            projector.apply(items)
        _fill(projector, set(given_log.topics))
        assert contents(given_log.settings, generation, given_log.model) == given_log.rows
        ends = {place: records[-1].event.position for place, records in given_log.topics.items() if records}
        assert checkpoints(given_log.settings, generation, given_log.model).items() >= ends.items()


def _deliveries(chance: random.Random, given: Given, batch: int, lost: float, again: float) -> Iterator[list[Item]]:
    """Give the records in some order that keeps each partition's, some lost, some more than once."""
    left = {place: [one for one in records if chance.random() >= lost] for place, records in given.topics.items()}
    seen: list[Item] = []
    while left := {place: records for place, records in left.items() if records}:
        items: list[Item] = []
        for _turn in range(chance.randint(1, 4)):
            place = chance.choice([*left])
            taken = chance.randint(1, batch)
            items += left[place][:taken]
            left[place] = left[place][taken:]
        if seen and chance.random() < again:
            items = [*chance.sample(seen, min(len(seen), 5)), *items, *items[-3:]]
        seen += items
        yield items


def _fill(projector: Projector, places: set[Place]) -> None:
    """Do as an idle worker does: look twice, fill what did not move, until nothing is missing."""
    while projector.behind(places) >= 0:
        projector.settled_behind(places)
        after = projector.settled_behind(places)
        upto = projector.head()
        while after < upto:
            after = projector.catch_up(after, limit=97)


@every_model
def test_the_rows_are_those_of_the_pure_fold(given_logs: dict[str, Given], name: str) -> None:
    """Without a database in between: what is read back is what the fold gave."""
    given, model = given_logs[name], given_logs[name].model
    streams: dict[UUID, Rows] = {}
    for event in given.log:
        streams[event.subject] = model.fold(
            streams.get(event.subject, model.empty()), event, parse_event(event.type, event.data)
        )
    with closing(psycopg.connect(given.settings.postgres, options="-c timezone=UTC")) as connection:
        for table in model.tables:
            schema = schema_of(given.settings, model.name, live(given.settings, model))
            query = f"SELECT {', '.join(table.columns)} FROM {schema}.{table.name}"
            stored = sorted(connection.execute(query.encode()), key=lambda row: row[: len(table.key)])
            folded = [table.values(row) for tables in streams.values() for row in tables[table.name]]
            assert stored
            assert stored == sorted(folded, key=lambda row: row[: len(table.key)])


# Duplicates and holes


def test_a_batch_seen_before_changes_nothing(given_log: Given) -> None:
    with fresh(given_log) as (_generation, projector):
        first = projector.apply(given_log.records)
        second = projector.apply(given_log.records)
    assert (first.applied, first.skipped, first.filled) == (len(given_log.records), 0, 0)
    assert (second.applied, second.skipped, second.filled) == (0, len(given_log.records), 0)


def test_a_hole_is_filled_before_what_comes_after_it(given_log: Given) -> None:
    place, records = max(given_log.topics.items(), key=lambda one: len(one[1]))
    with fresh(given_log) as (generation, projector):
        done = projector.apply([records[0], records[-1]])
        assert (done.applied, done.filled) == (len(records), len(records) - 2)
        assert checkpoints(given_log.settings, generation)[place] == records[-1].event.position


def test_two_projectors_at_once_apply_each_event_once(given_log: Given) -> None:
    items = given_log.records
    applied: list[int] = []
    together = Barrier(2)
    with fresh(given_log) as (generation, first), closing(Projector(given_log.settings, MODEL, generation)) as second:

        def project(projector: Projector) -> None:
            for start in range(0, len(items), 50):
                together.wait(timeout=60)
                applied.append(projector.apply(items[start : start + 50]).applied)

        threads = [Thread(target=project, args=(one,)) for one in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(applied) == len(items)
        assert contents(given_log.settings, generation) == given_log.rows


# Missing tails


def test_a_missing_tail_is_filled_although_no_record_comes(given_log: Given) -> None:
    place, records = max(given_log.topics.items(), key=lambda one: len(one[1]))
    others = [one for one in given_log.records if one.place != place]
    with fresh(given_log) as (generation, projector):
        applied_one_by_one(projector, others)
        projector.apply(records[:-3])
        assert projector.behind() == records[-4].event.position
        assert projector.settled_behind({place}) == -1  # seen for the first time: it may be under way
        after = projector.settled_behind({place})
        assert after == records[-4].event.position
        while after < projector.head():
            after = projector.catch_up(after, limit=10)
        assert projector.behind() == -1
        assert contents(given_log.settings, generation) == given_log.rows


def test_filling_one_partition_loses_nothing_of_another_that_is_further_behind(given_log: Given) -> None:
    """Another worker owns that other one, or it moves and so does not count as stuck."""
    by_size = sorted(given_log.topics.items(), key=lambda one: len(one[1]))
    (slow, slow_records), (stuck, stuck_records) = by_size[-2:]
    with fresh(given_log) as (generation, projector):
        applied_one_by_one(projector, [one for one in given_log.records if one.place not in {slow, stuck}])
        projector.apply(stuck_records[:-1])
        projector.apply(slow_records[:1])
        projector.settled_behind({stuck})
        after = projector.settled_behind({stuck})
        assert after > slow_records[0].event.position
        while after < projector.head():
            after = projector.catch_up(after)
        applied_one_by_one(projector, slow_records)
        assert contents(given_log.settings, generation) == given_log.rows


# Poison and old workers


def _choking(position: int) -> ReadModel:
    """Give the read model with a fold that cannot take one event."""

    def fold(before: Rows, event: Recorded, content: Event) -> Rows:
        if event.position == position:
            raise ValueError("personal: must not be told")
        return pipeline.fold(before, event, content)

    return replace(MODEL, fold=fold)


@pytest.mark.parametrize("size", [1, 13, 10_000])
def test_an_event_that_cannot_be_folded_parks_its_aggregate_and_no_other(given_log: Given, size: int) -> None:
    deal = max({one.subject for one in given_log.log if one.aggregate == "opportunity"}, key=_length(given_log))
    stream = [one.position for one in given_log.log if one.subject == deal]
    poison, later = stream[3], stream[4:]
    with fresh(given_log, _choking(poison)) as (generation, projector):
        applied_one_by_one(projector, given_log.records, size)
        letters = parked(given_log.settings, generation)
        found = contents(given_log.settings, generation)
        assert checkpoints(given_log.settings, generation)[_place(given_log, deal)] >= stream[-1]
    assert [position for position, _reason in letters] == [poison, *later]
    reasons = [reason for _position, reason in letters]
    assert reasons == ["ValueError: the fold could not take it"] + [
        "waits behind an event that could not be folded"
    ] * len(later)
    assert _without(found, deal) == _without(given_log.rows, deal)
    (row,) = _of(found["opportunity"], deal)
    assert f",{stream[2]}," in row  # as it stood before the event
    assert sum(int(text.strip("()").rpartition(",")[2]) for text in found["stay"]) == len(found["stage_visit"])


def _length(given: Given) -> Any:
    return lambda subject: sum(one.subject == subject for one in given.log)


def _place(given: Given, subject: UUID) -> Place:
    return given.settings.event_topic("opportunity"), partition_of(subject)


def _of(texts: list[str], subject: UUID) -> list[str]:
    return [text for text in texts if str(subject) in text]


def _without(found: Contents, subject: UUID) -> Contents:
    """Give what is of other aggregates alone, hence no sums."""
    own = {name: texts for name, texts in found.items() if name not in {sums.name for sums in MODEL.sums}}
    return {name: [text for text in texts if str(subject) not in text] for name, texts in own.items()}


def test_a_rebuild_parks_the_same_events(given_log: Given) -> None:
    deal = max({one.subject for one in given_log.log if one.aggregate == "opportunity"}, key=_length(given_log))
    stream = [one.position for one in given_log.log if one.subject == deal]
    choking = _choking(stream[3])
    with fresh(given_log, choking) as (generation, projector):
        projector.apply(given_log.records)
        expected = parked(given_log.settings, generation), contents(given_log.settings, generation)
    rebuild.rebuild(given_log.settings, choking)
    generation = live(given_log.settings)
    assert (parked(given_log.settings, generation), contents(given_log.settings, generation)) == expected
    rebuild.rebuild(given_log.settings, MODEL)


def test_a_worker_too_old_for_an_event_stops_and_moves_nothing(given_log: Given) -> None:
    known, strange = given_log.records[:2]
    unknown = replace(strange, event=replace(strange.event, type="prm.opportunity.vanished.v9"))
    with fresh(given_log) as (generation, projector):
        with pytest.raises(TooOld):
            projector.apply([known, unknown])
        assert set(checkpoints(given_log.settings, generation).values()) == {0}
        assert not any(contents(given_log.settings, generation).values())
        assert not parked(given_log.settings, generation)


def test_a_worker_of_another_version_of_the_read_model_stops(given_log: Given) -> None:
    newer = replace(MODEL, version=MODEL.version + 1)
    with closing(Projector(given_log.settings, newer)) as projector, pytest.raises(SchemaMismatch, match="rebuild"):
        projector.apply(given_log.records[:1])


def test_a_worker_that_waited_for_a_swap_goes_on_with_the_new_rows(given_log: Given) -> None:
    """A worker's batch that meets the swap waits for it, and neither fails nor writes to the old rows."""
    before = live(given_log.settings)
    done: list[Any] = []
    with closing(Projector(given_log.settings, MODEL)) as projector, empty_generation(given_log.settings, 900):
        worker = Thread(target=lambda: done.append(projector.apply(given_log.records[:1])))
        with psycopg.connect(given_log.settings.postgres) as swap:
            table = f"{given_log.settings.projections_schema}.generations"
            swap.execute(f"SELECT 1 FROM {table} WHERE status = 'live' AND name = 'pipeline' FOR UPDATE".encode())
            worker.start()
            until(lambda: rows(given_log.settings, _WAITING), "the worker waits for the swap")
            swap.execute(f"UPDATE {table} SET status = 'old' WHERE status = 'live' AND name = 'pipeline'".encode())
            swap.execute(f"UPDATE {table} SET status = 'live' WHERE generation = 900 AND name = 'pipeline'".encode())
        worker.join()
        (applied,) = done
        assert applied.applied == 1
        assert max(checkpoints(given_log.settings, 900).values()) == given_log.records[0].event.position
        with psycopg.connect(given_log.settings.postgres) as back:
            mine = "name = 'pipeline' AND generation"
            back.execute(f"UPDATE {table} SET status = 'old' WHERE {mine} = 900".encode())
            back.execute(f"UPDATE {table} SET status = 'live' WHERE {mine} = {before}".encode())


_WAITING = (
    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    " AND query LIKE '%%generations%%'"
)


# Personal values


def test_personal_values_stand_in_the_personal_table_alone(given_log: Given) -> None:
    found = given_log.rows
    assert any(NAME in text for text in found["personal"])
    assert any(SECRET in text for text in found["personal"])
    others = "\n".join(text for name, texts in found.items() if name != "personal" for text in texts)
    values = rows(given_log.settings, f"SELECT value FROM {_schema(given_log)}.personal")
    assert len(values) > 5
    assert not [row["value"] for row in values if row["value"] in others]
    view = f"SELECT 1 FROM {given_log.settings.read_schema}.opportunities WHERE customer = %s AND next_action = %s"
    assert rows(given_log.settings, view, [NAME, SECRET])


def _schema(given: Given) -> str:
    return schema_of(given.settings, MODEL.name, live(given.settings))


def test_a_text_that_only_looks_encrypted_stops_nobody(given_log: Given) -> None:
    """Names a key that exists; the door refuses such texts, a log may hold them all the same."""
    seller = partner()
    deal = opening(seller.subject)
    forged = [f"~1.{deal.subject.hex}.{rest}" for rest in ("A", "AAAA", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")]
    two = f"{forged[0]} {forged[1].replace(deal.subject.hex, seller.subject.hex)}"
    write(given_log.settings, [seller, deal])
    for version, name in enumerate((*forged, two), 2):
        renamed = {"customer": {"name": name}, "changed": ["customer"]}
        append(given_log.settings, [(deal.subject, version, "prm.opportunity.details_changed.v1", renamed)])
        assert set(rebuild.compare(given_log.settings, MODEL).differs.values()) == {0}
    view = f"SELECT customer FROM {given_log.settings.read_schema}.opportunities WHERE opportunity_id = %s"
    assert rows(given_log.settings, view, [deal.subject]) == [{"customer": two}]


def test_what_was_encrypted_with_a_key_that_is_gone_is_in_no_rebuilt_row(given_log: Given) -> None:
    assert set(rebuild.compare(given_log.settings, MODEL).differs.values()) == {0}
    before = contents(given_log.settings, live(given_log.settings))
    (key,) = rows(given_log.settings, f"SELECT key_id FROM {_schema(given_log)}.personal WHERE value = %s", [SECRET])
    with psycopg.connect(given_log.settings.postgres) as connection:
        keys = f"{given_log.settings.store_schema}.keys"
        connection.execute(f"DELETE FROM {keys} WHERE key_id = %s".encode(), [key["key_id"]])
    after = one_pass(given_log.settings)
    assert after["personal"] == [text for text in before["personal"] if not text.startswith(f"({key['key_id']},")]
    assert {**after, "personal": []} == {**before, "personal": []}
    view = f"{given_log.settings.read_schema}.opportunities"
    query = f"SELECT next_action, next_action_due_on FROM {view} WHERE customer = %s"
    (deal,) = rows(given_log.settings, query, [NAME])
    assert deal["next_action"] is None
    assert deal["next_action_due_on"]
