"""Who asks, how far everything is, and whether a customer is free."""

from contextlib import closing
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from pydantic import BaseModel

from prm_es.aggregates.availability import Question
from prm_es.aggregates.base import Refused
from prm_es.api.access import Asking, router
from prm_es.api.outcomes import refused
from prm_es.api.services import Services, services_of
from prm_es.availability import Spellings, as_json, ask

guarded = router()


class Me(BaseModel):
    """Who asks, as we know it."""

    actor: str
    role: str
    org: str
    orgs: list[str]
    name: str
    locale: str
    csrf: str


def _services(request: Request) -> Services:
    return services_of(request.app)


Shared = Annotated[Services, Depends(_services)]


@guarded.get("/api/me", tags=["about"])
def me(who: Asking) -> Me:
    """Say who asks: role, organisation, and what an unsafe request of a browser's session must bring back."""
    return Me(
        actor=who.actor,
        role=who.role.value,
        org=who.org,
        orgs=[str(one) for one in who.orgs],
        name=who.name,
        locale=who.locale,
        csrf=who.csrf,
    )


@guarded.get("/api/status", tags=["about"])
def status(services: Shared) -> dict[str, Any]:
    """Say how far everything is: commands unanswered, events unpublished, read models behind, dead letters."""
    return services.status().as_json()


@guarded.post("/api/availability", tags=["leads"])
def availability(question: Question, who: Asking, services: Shared) -> dict[str, Any]:
    """Say whether a customer is free, protected until when, or under review; each question is logged.

    A partner's people are told nothing of who holds it, and may ask so many times a day.
    """
    with closing(Spellings(services.settings)) as spellings:  # connects only for a question by name
        done = ask(services.store(), question, who.as_actor, spellings)
    if isinstance(done, Refused):
        raise refused(done)
    return as_json(done)


def include(app: FastAPI) -> None:
    """Add the endpoints."""
    app.include_router(guarded)
