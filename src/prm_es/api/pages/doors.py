"""How the pages reach the rest: lists and figures as who asks may see them, timelines, commands, what people keep."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
from pydantic import ValidationError

from prm_es.aggregates import catalogue
from prm_es.aggregates.availability import Question
from prm_es.aggregates.base import Refused
from prm_es.aggregates.permissions import ASK_AVAILABILITY
from prm_es.api import queries
from prm_es.api.asked import Wrong
from prm_es.api.commands import read
from prm_es.api.freshness import Model
from prm_es.api.lists import LISTS, List
from prm_es.api.pages import story
from prm_es.api.pages.language import Reader
from prm_es.api.principal import Principal
from prm_es.api.problems import Problem
from prm_es.api.services import Services
from prm_es.api.timelines import timeline
from prm_es.availability import ask
from prm_es.settings import Settings

WAIT_S: Final = 8.0
VISIBLE_S: Final = 3.0
_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 0.2
REQUESTS: Final = 200


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of a list, or its groups; `problem` says what could not be read of the question."""

    items: Sequence[Mapping[str, Any]]
    following: str | None = None
    problem: str | None = None


class Doors:
    """One for an app."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.settings: Settings = services.settings
        self.zone = ZoneInfo(services.settings.report_tz)

    @contextmanager
    def reading(self, who: Principal) -> Iterator[Any]:
        with self._services.database.reading(who) as cursor:
            yield cursor

    def as_of(self) -> Model:
        """Give the position up to which every read model is complete."""
        return min(self._services.freshness.models().values(), key=lambda one: one.position)

    def listing(self, who: Principal, name: str, given: Mapping[str, str]) -> Listing:
        """Read a list as an address asks for it."""
        plain = {**given, "sort": "", "cursor": ""} if given.get("group_by") else given
        try:
            found = queries.listing(self._services, who, name, list(pairs(LISTS[name], plain)))
        except Wrong as wrong:
            return Listing((), problem=f"{wrong.field}: {wrong.message}")
        return Listing(found.items, found.next)

    def timeline(
        self, who: Principal, reader: Reader, aggregate: str, subject: UUID
    ) -> tuple[list[story.Entry], Mapping[str, Any]]:
        """Give what happened, the newest first, and what was said at the beginning."""
        orgs = who.orgs if who.partner_side else None
        found = timeline(self._services.history(), aggregate, subject, orgs)
        told = [
            story.entry(
                f"{aggregate}.{one.what}",
                one.details,
                at=one.at,
                by=one.on_behalf_of or one.by,
                reader=reader,
                vendor=not who.partner_side,
            )
            for one in reversed(found)
        ]
        first = next(
            (one.details for one in found if one.what in ("registered", "captured", "opened") and one.version == 1), {}
        )
        return told, first

    # Commands

    def send(
        self, who: Principal, name: str, subject: UUID, data: Mapping[str, Any], command_id: str
    ) -> Mapping[str, Any]:
        """Send a command and give its recorded outcome, once what it changed is to be seen; else pending."""
        body = {"type": catalogue.PREFIX + name, "subject": str(subject), "id": command_id, "data": data}
        try:
            sent = read(orjson.dumps(body), who)
        except Problem as problem:
            return {"outcome": "refused", "code": problem.code, "message": problem.detail, "errors": problem.errors}
        place = self._services.door.send(sent)
        until, pause = time.monotonic() + WAIT_S, _PAUSE_S
        while (response := self._services.door.outcome(sent, place)) is None:
            if time.monotonic() > until:
                return {"outcome": "pending"}
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE_S)
        outcome = cast("dict[str, Any]", orjson.loads(response))
        self._wait_for([one["position"] for one in outcome.get("events", ())])
        return outcome

    def _wait_for(self, positions: Sequence[int]) -> None:
        """Wait, for a bounded time, until the read models are complete up to the last position."""
        until = time.monotonic() + VISIBLE_S
        while positions and self.as_of().position < max(positions) and time.monotonic() < until:
            time.sleep(_PAUSE_S)

    def may_ask(self, who: Principal) -> bool:
        return who.role in ASK_AVAILABILITY

    def ask(self, who: Principal, question: Mapping[str, Any]) -> Mapping[str, Any]:
        """Ask whether a customer is free; holders, with their names, are the vendor's to see."""
        try:
            read_question = Question.model_validate(question)
        except ValidationError as error:
            errors = [
                {"field": ".".join(map(str, one["loc"])), "code": one["type"], "message": one["msg"]}
                for one in error.errors(include_url=False, include_context=False, include_input=False)
            ]
            return {"answer": "refused", "code": "command.invalid", "message": "", "errors": errors}
        done = ask(self._services.store(), read_question, who.as_actor)
        if isinstance(done, Refused):
            errors = [{"field": one.field, "code": one.code, "message": one.message} for one in done.errors]
            return {"answer": "refused", "code": done.code, "message": done.sentence, "errors": errors}
        names = self._names(who, [one.partner_id for one in done.holders])
        holders = [
            {"lead_id": one.lead_id, "partner": names.get(one.partner_id), "until": one.until} for one in done.holders
        ]
        return {"answer": done.answer, "yours": done.yours, "until": done.until, "holders": holders}

    def _names(self, who: Principal, partners: Sequence[UUID]) -> Mapping[UUID, str]:
        if not partners:
            return {}
        with self.reading(who) as cursor:
            cursor.execute(
                "SELECT partner_id, partner FROM partners WHERE partner_id = ANY (%s::uuid[])",
                (list(map(str, partners)),),
            )
            return dict(cursor.fetchall())

    def requests(self, who: Principal) -> list[dict[str, Any]]:
        """Give what the pages sent for somebody's organisation, the newest first, with its outcome."""
        with self._services.history().reading() as connection:
            found = connection.execute(
                "SELECT id, type, subject, actor, outcome, code, response, recorded_at FROM commands"
                " WHERE actor_org = %s AND source LIKE 'api:%%' ORDER BY recorded_at DESC LIMIT %s",
                (who.org, REQUESTS),
            ).fetchall()
        return [
            {**row, "message": orjson.loads(row["response"]).get("message", "") if row["outcome"] != "accepted" else ""}
            for row in found
        ]

    # What a person keeps

    def saved_views(self, who: Principal, page: str) -> list[dict[str, Any]]:
        """Give the views of a table that somebody has saved, by name."""
        with self._services.store().reading() as connection:
            found = connection.execute(
                "SELECT name, query FROM saved_views WHERE actor = %s AND actor_org = %s AND page = %s ORDER BY name",
                (who.actor, who.org, page),
            ).fetchall()
        return [dict(one) for one in found]

    def save_view(self, who: Principal, page: str, name: str, query: str) -> None:
        """Keep a view under a name, in place of one of the same name."""
        with self._services.store().reading() as connection:
            connection.execute(
                "INSERT INTO saved_views (actor, actor_org, page, name, query) VALUES (%s, %s, %s, %s, %s)"
                " ON CONFLICT (actor, actor_org, page, name) DO UPDATE SET query = excluded.query, saved_at = now()",
                (who.actor, who.org, page, name, query),
            )

    def remove_view(self, who: Principal, page: str, name: str) -> None:
        with self._services.store().reading() as connection:
            connection.execute(
                "DELETE FROM saved_views WHERE actor = %s AND actor_org = %s AND page = %s AND name = %s",
                (who.actor, who.org, page, name),
            )


def pairs(one: List, given: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Give the parameters of a list for those of a page, where several values stand in one, separated by commas."""
    for name, value in given.items():
        several = name in one.filters and one.filters[name].kind in ("one_of", "among", "of_partner")
        yield from ((name, part) for part in (value.split(",") if several else [value]) if part)
