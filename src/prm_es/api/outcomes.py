"""What became of a command, as an answer over HTTP."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from prm_es.aggregates.base import FieldError, Refused
from prm_es.api.problems import Problem

_STATUS: Final[Mapping[str, HTTPStatus]] = {
    "actor.forbidden": HTTPStatus.FORBIDDEN,
    "actor.unknown_user": HTTPStatus.FORBIDDEN,
    "aggregate.not_found": HTTPStatus.NOT_FOUND,
    "command.invalid": HTTPStatus.UNPROCESSABLE_ENTITY,
    "command.too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
}
_UNREADABLE: Final = "message."


def status_of(code: str) -> HTTPStatus:
    """Give the status of a refusal: 422 for what can never be right, 409 for what is not possible as things stand."""
    if code.startswith(_UNREADABLE):
        return HTTPStatus.UNPROCESSABLE_ENTITY
    return _STATUS.get(code, HTTPStatus.CONFLICT)


def refused(answer: Refused) -> Problem:
    """Give the problem of a refusal."""
    return Problem(status_of(answer.code), answer.code, answer.sentence, errors=list(map(_error, answer.errors)))


def _error(error: FieldError) -> Mapping[str, str]:
    return {"field": error.field, "code": error.code, "message": error.message}


def recorded(outcome: Mapping[str, Any]) -> Problem:
    """Give the problem of a recorded outcome that is not acceptance, with the outcome as it was recorded."""
    errors: Sequence[Mapping[str, str]] = outcome.get("errors", ())
    code = str(outcome["code"])
    return Problem(status_of(code), code, str(outcome["message"]), errors=errors, more={"outcome": dict(outcome)})
