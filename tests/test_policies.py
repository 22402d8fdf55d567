"""Policies: checked, loaded once a version, in force from their time on, and named by the events they decided."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from prm_es.aggregates import policy
from prm_es.aggregates.policy import Policy
from prm_es.errors import Usage
from prm_es.messages import Actor, Role
from prm_es.policies import Loaded, NotLoaded, as_json, as_yaml, known_policies, load_policy
from prm_es.settings import Settings
from prm_es.store.store import Store
from prm_es.upstream.doing import actor_of
from tests.support import ADMIN, IMPORTER, Desk, check_log, command, opening, rows
from tests.workers import check_topics, publish_all

SHIPPED = policy.default()


@pytest.fixture(scope="module")
def store(migrated: Settings) -> Iterator[Store]:
    with Store(migrated) as opened:
        yield opened


def numbered(version: int, prospect: int, effective_from: datetime) -> Policy:
    document: dict[str, Any] = SHIPPED.model_dump(mode="json")
    document["opportunity"]["stages"]["prospect"]["probability"] = prospect
    return Policy.model_validate({**document, "version": version, "effective_from": effective_from})


def loaded(store: Store, given: Policy) -> Loaded:
    done = load_policy(store, given, ADMIN)
    assert isinstance(done, Loaded), done
    return done


def snapshot(migrated: Settings, position: int) -> tuple[int, int]:
    (row,) = rows(migrated, "SELECT state FROM events WHERE notification_id = %s", (position,))
    data = json.loads(row["state"])["data"]
    return data["policy_version"], data["probability"]


def test_a_decision_takes_the_policy_in_force_at_its_time(store: Store, migrated: Settings) -> None:
    desk = Desk(store)
    by = desk.active_partner()

    def opened(at: datetime | None = None) -> tuple[int, int]:
        sent = opening(by, actor=IMPORTER) if at else opening(by)
        (answer,) = desk.accepted(replace(sent, time=at))
        return snapshot(migrated, answer["events"][0]["position"])

    now = datetime.now(UTC)
    assert opened() == (0, 10)
    first = loaded(store, numbered(1, 15, now - timedelta(days=30)))
    assert first.position is not None
    assert opened() == (1, 15)
    loaded(store, numbered(2, 20, now + timedelta(days=30)))  # now, for later
    assert opened() == (1, 15)
    assert opened(now - timedelta(days=31)) == (0, 10)
    assert opened(now - timedelta(days=29)) == (1, 15)
    loaded(store, numbered(3, 25, now - timedelta(days=10)))
    assert [opened(), opened(now - timedelta(days=29))] == [(3, 25), (1, 15)]

    # Nothing but a higher version, and none twice with another content.
    before = store.head()
    assert loaded(store, numbered(2, 20, now + timedelta(days=30))).position is None
    other = load_policy(store, numbered(2, 21, now + timedelta(days=30)), ADMIN)
    assert isinstance(other, NotLoaded)
    assert "another content" in other.sentence
    assert isinstance(load_policy(store, numbered(0, 21, now), ADMIN), NotLoaded)
    assert loaded(store, SHIPPED).position is None
    assert isinstance(load_policy(store, numbered(9, 50, now), Actor("ana", Role.CHANNEL_MANAGER)), NotLoaded)
    assert store.head() == before

    assert [one.version for one in known_policies(store)] == [0, 1, 2, 3]
    stream = store.stream(policy.STREAM)
    assert [(one.version, one.type, one.actor) for one in stream] == [
        (n, "prm.policy.loaded.v1", ADMIN) for n in (1, 2, 3)
    ]
    check_log(migrated)
    publish_all(migrated)  # a policy is no message to anybody; the log's positions go on
    check_topics(migrated)


def test_a_version_below_the_highest_is_refused(store: Store) -> None:
    loaded(store, numbered(7, 15, datetime(2030, 1, 1, tzinfo=UTC)))
    refused = load_policy(store, numbered(6, 15, datetime(2030, 1, 1, tzinfo=UTC)), ADMIN)
    assert isinstance(refused, NotLoaded)
    assert refused.sentence == "version 6 is below 7, which is loaded: make it 8"


def test_what_is_shown_can_be_loaded_again() -> None:
    given = numbered(4, 33, datetime(2026, 1, 1, 12, tzinfo=UTC))
    assert policy.parse(as_yaml(given), "shown") == given
    assert policy.parse(as_json(given), "shown") == given


def test_a_command_cannot_write_to_the_stream_of_policies(store: Store) -> None:
    answer = Desk(store).one(
        command(
            "partner.import",
            policy.STREAM,
            {"legal_name": "Acme", "status": "active", "country": "BR", "types": ["reseller"]},
            IMPORTER,
        )
    )
    assert answer["code"] == "aggregate.not_found"


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("a: [", 1),
        ("", 1),
        ("version: 1", 3),
        (as_yaml(SHIPPED).replace("zone: UTC", "zone: Mars"), 1),
        (as_yaml(SHIPPED).replace("zone: UTC", "zone: Mars\ncolour: red").replace("P90D", "soon"), 6),
        (as_yaml(SHIPPED).replace("Z'", "'"), 1),
        ("\ud800", 1),
    ],
)
def test_each_mistake_of_a_file_has_its_line(text: str, mistakes: int, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(Usage) as error:
        policy.read(file)
    lines = str(error.value).splitlines()
    assert len(lines) == mistakes
    assert all(line.startswith(str(file)) for line in lines)


def test_who_loads_is_a_vendor_admin_unless_said_otherwise() -> None:
    assert actor_of("vera", Role.VENDOR_ADMIN) == ADMIN
