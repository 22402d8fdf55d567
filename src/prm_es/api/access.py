"""Which role may ask for what: one table, a line an endpoint, every cell tested.

What rows a role sees of what it may ask for is the database's business: `database.py`. What a role may change is that
of the commands themselves: `aggregates/permissions.py`.
"""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.routing import BaseRoute

from prm_es.aggregates.permissions import ASK_AVAILABILITY, ROLES
from prm_es.api.lists import LISTS
from prm_es.api.principal import Principal, principal
from prm_es.api.problems import Problem
from prm_es.messages import PARTNER_ROLES, Role

PARTNER: Final = PARTNER_ROLES
VENDOR: Final = frozenset(
    {
        Role.VENDOR_ADMIN,
        Role.CHANNEL_MANAGER,
        Role.SELLER,
        Role.ADJUDICATOR,
        Role.FINANCE,
        Role.AUDITOR,
        Role.INTEGRATION,
    }
)
EVERYBODY: Final = VENDOR | PARTNER
SENDERS: Final = frozenset[Role]().union(*ROLES.values()) - {Role.SYSTEM}

ACCESS: Final[Mapping[str, frozenset[Role]]] = {
    "GET /api/me": EVERYBODY,
    "GET /api/status": VENDOR,
    "POST /api/availability": ASK_AVAILABILITY,
    "POST /commands": SENDERS,
    "GET /commands/{id}": SENDERS,
    "POST /logout": EVERYBODY,
    **{f"GET /api/{name}": EVERYBODY for name in LISTS},
    "GET /api/conflicts": VENDOR,
    "GET /api/opportunities/{opportunity_id}": EVERYBODY,
    "GET /api/opportunities/{opportunity_id}/timeline": EVERYBODY,
    "GET /api/leads/{lead_id}": EVERYBODY,
    "GET /api/leads/{lead_id}/timeline": EVERYBODY,
    "GET /api/partners/{partner_id}": EVERYBODY,
    "GET /api/pipeline": EVERYBODY,
    "GET /api/funnel": EVERYBODY,
    "GET /api/live": EVERYBODY,
    # The pages.
    **dict.fromkeys(
        (
            "GET /",
            "GET /pipeline",
            "GET /opportunities",
            "GET /opportunities/{opportunity_id}",
            "GET /leads",
            "GET /leads/{lead_id}",
            "GET /registrations",
            "GET /offers",
            "GET /protected-customers",
            "POST /protected-customers",
            "POST /protected-customers/free",
            "GET /partners/{partner_id}",
            "GET /goals",
            "GET /deadlines",
            "GET /requests",
            "GET /keys",
            "POST /preferences",
            "POST /views/{name}",
            "POST /views/{name}/remove",
        ),
        EVERYBODY,
    ),
    **dict.fromkeys(("GET /conflicts", "GET /partners", "GET /scorecards"), VENDOR),
    **dict.fromkeys(("GET /do/{command}/{subject}", "POST /do/{command}/{subject}"), SENDERS),
    **dict.fromkeys(("GET /register", "POST /register", "POST /register/free"), ROLES["lead.register"]),
    "POST /conflicts/resolve": ROLES["lead.resolve_match"] - {Role.SYSTEM},
}

# Asked by who is not known yet, or the same for everybody.
PUBLIC: Final = frozenset(
    {
        "GET /login",
        "GET /auth/callback",
    }
)


async def admitted(request: Request, who: Annotated[Principal, Depends(principal)]) -> Principal:
    """Give who asks, if the role may; raises Problem 403. The dependency of every router but the public ones."""
    for key in _keys(request.scope["route"], (request.method,)):
        if who.role not in ACCESS.get(key, frozenset()):
            raise Problem(HTTPStatus.FORBIDDEN, "actor.forbidden", f"{who.role} may not ask for this")
    return who


Asking = Annotated[Principal, Depends(admitted)]
"""The parameter by which an endpoint learns who asks."""


def router() -> APIRouter:
    """Give a router that lets nobody in whom the table does not; its endpoints name their whole paths."""
    return APIRouter(dependencies=[Depends(admitted)])


def unlisted(routes: Iterable[BaseRoute]) -> list[str]:
    """Name the endpoints that are neither in the table and guarded by it, nor public."""
    found = []
    for context in iter_route_contexts(list(routes)):
        route = context.original_route
        if isinstance(route, APIRoute):
            guarded = any(one.call is admitted for one in route.dependant.dependencies)
            found += [
                key for key in _keys(route, route.methods or ()) if not ((guarded and key in ACCESS) or key in PUBLIC)
            ]
    return sorted(found)


def _keys(route: APIRoute, methods: Iterable[str]) -> list[str]:
    return [f"{'GET' if method == 'HEAD' else method} {route.path_format}" for method in methods]
