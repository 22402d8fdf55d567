"""Generations of a read model for the tests: made empty, filled in some way, and read back as text."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
from psycopg2 import sql

from prm_es import rebuild
from prm_es.messages import Recorded, recorded
from prm_es.partitions import partition_of
from prm_es.projections.base import ReadModel
from prm_es.projections.pipeline import MODEL
from prm_es.projections.runner import Item, Place, schema_of
from prm_es.settings import PARTITIONS, Settings
from tests.support import rows

Contents = dict[str, list[str]]  # the rows of each table as PostgreSQL writes them


@contextmanager
def empty_generation(settings: Settings, number: int, model: ReadModel = MODEL) -> Iterator[int]:
    """Make empty tables beside the live ones, and drop them afterwards."""
    connection = psycopg2.connect(settings.dsn("owner"))
    try:
        with connection, connection.cursor() as cursor:
            rebuild._create(cursor, settings, model, number, "building")
        yield number
    finally:
        connection.rollback()
        rebuild._drop(connection, settings, model, number)
        connection.close()


def live(settings: Settings, model: ReadModel = MODEL) -> int:
    query = f"SELECT generation FROM {settings.projections_schema}.generations WHERE name = %s AND status = 'live'"
    (found,) = rows(settings, query, [model.name])
    return int(found["generation"])


def contents(settings: Settings, generation: int, model: ReadModel = MODEL) -> Contents:
    """Give every row of a generation as text, to the last digit."""
    schema = schema_of(settings, model.name, generation)
    return {name: [row["row"] for row in rows(settings, _ROWS.format(schema=schema, name=name))] for name in model.keys}


_ROWS = 'SELECT one::text AS row FROM {schema}.{name} one ORDER BY one::text COLLATE "C"'


def one_pass(settings: Settings, model: ReadModel = MODEL) -> Contents:
    """Give the rows that folding the log once, aggregate by aggregate, makes."""
    rebuild.rebuild(settings, model)
    return contents(settings, live(settings, model), model)


def checkpoints(settings: Settings, generation: int, model: ReadModel = MODEL) -> dict[Place, int]:
    table = f"{settings.projections_schema}.checkpoints"
    query = f"SELECT topic, partition, position FROM {table} WHERE name = %s AND generation = %s"
    found = rows(settings, query, [model.name, generation])
    return {(row["topic"], row["partition"]): row["position"] for row in found}


def parked(settings: Settings, generation: int, model: ReadModel = MODEL) -> list[tuple[int, str]]:
    table = f"{settings.projections_schema}.dead_letters"
    query = f"SELECT position, reason FROM {table} WHERE name = %s AND generation = %s ORDER BY 1"
    return [(row["position"], row["reason"]) for row in rows(settings, query, [model.name, generation])]


def the_log(settings: Settings) -> list[Recorded]:
    found = rows(settings, "SELECT * FROM events ORDER BY notification_id")
    return [
        recorded(
            one["notification_id"], one["originator_id"], one["originator_version"], one["topic"], bytes(one["state"])
        )
        for one in found
    ]


def as_published(settings: Settings, log: list[Recorded], model: ReadModel = MODEL) -> dict[Place, list[Item]]:
    """Give the records of each topic-partition, chained as the publisher chains them."""
    topics: dict[Place, list[Item]] = {
        (settings.event_topic(name), number): [] for name in model.aggregates for number in range(PARTITIONS)
    }
    for event in log:
        if event.aggregate in model.aggregates:
            records = topics[settings.event_topic(event.aggregate), partition_of(event.subject)]
            previous = records[-1].event.position if records else 0
            place = (settings.event_topic(event.aggregate), partition_of(event.subject))
            records.append(Item(place, event, previous))
    return topics


def note_published(settings: Settings, topics: dict[Place, list[Item]]) -> None:
    """Say in the store that all of it is published, as the publisher does."""
    values: list[Any] = [(*place, records[-1].event.position) for place, records in topics.items() if records]
    statement = sql.SQL(
        "INSERT INTO published (topic, topic_id, partition, position) VALUES (%s, 'tests', %s, %s)"
        " ON CONFLICT (topic, partition) DO UPDATE SET position = excluded.position"
    )
    connection = psycopg2.connect(settings.dsn("writer"))
    with connection, connection.cursor() as cursor:
        cursor.executemany(statement, values)
    connection.close()
