"""Forgetting a person: its key, and every value that a read model holds in clear, go in the commit of the event.

What was sealed under the key stays in the log and can never be read again. The conflict worker drops what it finds the
person by when it comes to the event, so that its rows are those of a rebuild without the key.
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from stdnum.exceptions import ValidationError

from prm_es.aggregates.catalogue import wire_type
from prm_es.aggregates.fields import GivenTaxId
from prm_es.aggregates.person import REASONS, Forgotten
from prm_es.errors import Usage
from prm_es.messages import Actor, Envelope, Role, stored_state
from prm_es.projections.base import PERSONAL
from prm_es.projections.runner import schema_of
from prm_es.settings import Settings
from prm_es.store.store import NewEvent, Store, Writes

SOURCE: Final = "prm-es-cli"
MAY_FORGET: Final = (Role.VENDOR_ADMIN,)


@dataclass(frozen=True, slots=True)
class Done:
    """Who was forgotten, at which position, and how many values in clear went; None if there was no key of it."""

    person_id: UUID
    position: int | None
    values: int = 0


@dataclass(frozen=True, slots=True)
class NotDone:
    """Why nobody was forgotten; nothing was changed."""

    sentence: str


def known_by(*, email: str | None, phone: str | None, tax_id: str | None) -> str:
    """Give the text by which a person is told apart; raises Usage that repeats no value."""
    given = [one for one in (email, phone, tax_id) if one]
    if len(given) != 1:
        raise Usage("name the person by its id, or by one of --email, --phone and --tax-id")
    if not tax_id:
        return given[0]
    country, _colon, number = tax_id.partition(":")
    try:
        checked = GivenTaxId(country=country.upper(), value=number)
    except (ValueError, ValidationError):
        raise Usage("--tax-id: write COUNTRY:NUMBER, an individual's as BR:52998224725") from None
    return f"{checked.country}:{checked.value}"


def forget(settings: Settings, person: UUID | str, reason: str, actor: Actor) -> Done | NotDone:
    """Forget a person, by its id or by its e-mail, phone or tax id, under the append lock.

    Raises Usage for a reason that is none of REASONS, SchemaMismatch, psycopg errors. Who is not known, or was
    forgotten before, is not an error.
    """
    if reason not in REASONS:
        raise Usage(f"--reason: one of {', '.join(REASONS)}")
    if actor.role not in MAY_FORGET:
        return NotDone(f"{actor.role} may not forget a person; {', '.join(MAY_FORGET)} may")
    with Store(settings, "owner") as store, store.batch() as batch:
        person_id = person if isinstance(person, UUID) else batch.vault.person(person)
        schemas = [schema_of(settings, *one) for one in batch.generations(settings.projections_schema)]
        values = batch.destroy_key(person_id, [(schema, PERSONAL) for schema in schemas])
        if values is None:
            return Done(person_id, None)
        version = len(batch.streams({person_id: 0}).get(person_id, [])) + 1
        event = Forgotten(reason=reason)
        data = event.model_dump_json().encode()
        cause = Envelope(SOURCE, f"forget-{person_id}-{version}", "prm.person.forget", person_id, actor, data)
        state = stored_state(batch.head.at, batch.head.at, cause, data)
        batch.write(Writes(events=[NewEvent(person_id, version, wire_type(event), state)]))
        return Done(person_id, batch.head.position + 1, values)
