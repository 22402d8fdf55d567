"""The end of the demo: deadlines at work on one lead, by a policy whose durations are seconds.

No clock is faked: the policy is in force for the one decision, which it gives a protection of some seconds, and the
numbers from before follow at once as the next version. What then happens to the lead, the deadlines worker does.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from time import monotonic, sleep
from typing import Any, Final
from uuid import UUID, uuid4

import orjson
from rich.console import Console

from prm_es import availability
from prm_es.aggregates.policy import Policy, in_force
from prm_es.errors import Unavailable
from prm_es.messages import VENDOR, Actor, Envelope, Recorded, Role, utc_text
from prm_es.policies import NotLoaded, known_policies, load_policy
from prm_es.settings import Settings
from prm_es.store.store import Store
from prm_es.upstream.demo.world import Seller
from prm_es.upstream.sending import send_one

PROTECTION_S: Final = 6
REMINDED_S: Final = 3
PATIENCE_S: Final = 60.0
POLL_S: Final = 0.05
ADMIN: Final = Actor("demo", Role.VENDOR_ADMIN, VENDOR)
MANAGER: Final = Actor("demo", Role.CHANNEL_MANAGER, VENDOR)
_WORDS: Final = {
    "registered": "registered, to be screened",
    "screened": "screened by the service: no rival",
    "approved": "approved, protected until {protected_until}",
    "protection_expiring": "the partner is reminded: protected until {protected_until}",
    "protection_expired": "expired by itself, due at {expired_at}",
}


def play(settings: Settings, sellers: Sequence[Seller], console: Console) -> None:
    """Register a lead of the first of two sellers, protect it for seconds, and tell what happens until it expires.

    Raises Unavailable if something that has to happen does not happen in time, or is refused.
    """
    seller, rival = sellers[:2]
    customer_id = f"demo-{uuid4()}"
    lead_id = uuid4()
    seconds = f"a protection of {PROTECTION_S} seconds"
    console.print(f"\n[bold]Deadlines at work[/bold]: one registration more, and {seconds} by a policy of its own")
    with Store(settings) as store:
        tale = _Tale(store, lead_id, console)
        _ask(settings, "lead.register", lead_id, _representative(seller), _registration(seller, customer_id))
        tale.until("screened")
        with _short_protection(store):
            _ask(settings, "lead.approve", lead_id, MANAGER, {})
        tale.until("approved")
        question = availability.question_of((), (customer_id,), (seller.lines[0][0],))
        answer = availability.ask(store, question, _representative(rival))
        tale.say(datetime.now(UTC), f"a rival asks for the customer: {' '.join(availability.in_words(answer))}")
        tale.until("protection_expiring")
        tale.until("protection_expired")
        answer = availability.ask(store, question, _representative(rival))
        tale.say(datetime.now(UTC), f"the rival asks again: {' '.join(availability.in_words(answer))}")


@dataclass
class _Tale:
    """Tells the events of one lead as they come."""

    store: Store
    lead_id: UUID
    console: Console
    told: list[Recorded] = field(default_factory=list)

    def until(self, name: str) -> None:
        """Tell what is new until there is an event of this name; raises Unavailable."""
        deadline = monotonic() + PATIENCE_S
        while not any(_name(event) == name for event in self.told):
            if monotonic() > deadline:
                raise Unavailable(f"the lead was not {name} within {PATIENCE_S:.0f} s: do all workers run?")
            for event in self.store.stream(self.lead_id)[len(self.told) :]:
                self.told.append(event)
                self.say(event.recorded_at, _in_words(event))
            sleep(POLL_S)

    def say(self, at: datetime, text: str) -> None:
        self.console.print(f"  {at:%H:%M:%S}  {text}", soft_wrap=True)


def _name(event: Recorded) -> str:
    return event.type.split(".")[2]


def _in_words(event: Recorded) -> str:
    content: dict[str, Any] = orjson.loads(event.data)
    times = {name: _clock(content.get(name)) for name in ("protected_until", "expired_at")}
    return _WORDS.get(_name(event), _name(event).replace("_", " ")).format(**times)


def _clock(text: str | None) -> str:
    return f"{datetime.fromisoformat(text).astimezone(UTC):%H:%M:%S}" if text else ""


@contextmanager
def _short_protection(store: Store) -> Iterator[None]:
    """Put seconds in force, and the numbers from before again, whatever happens."""
    before = in_force(known_policies(store), datetime.now(UTC))
    lead = before.lead.model_copy(
        update={
            "protection": timedelta(seconds=PROTECTION_S),
            "tier_protection": {},
            "reminders": (timedelta(seconds=PROTECTION_S - REMINDED_S),),
        }
    )
    try:
        _load(store, before.model_copy(update={"lead": lead}))
        yield
    finally:
        _load(store, before)


def _load(store: Store, numbers: Policy) -> None:
    """Load these numbers as the next version, in force at once; raises Unavailable if somebody else was faster."""
    version = max(one.version for one in known_policies(store)) + 1
    document = numbers.model_dump(mode="json") | {"version": version, "effective_from": utc_text(datetime.now(UTC))}
    loaded = load_policy(store, Policy.model_validate(document), ADMIN)
    if isinstance(loaded, NotLoaded):
        raise Unavailable(loaded.sentence)


def _representative(seller: Seller) -> Actor:
    return Actor(seller.users[0], Role.PARTNER_REP, str(seller.id))


def _registration(seller: Seller, customer_id: str) -> dict[str, Any]:
    close: date = (datetime.now(UTC) + timedelta(days=60)).date()
    return {
        "partner_id": str(seller.id),
        "customer": {"name": "Quick Test Ltd", "country": seller.place.country, "customer_id": customer_id},
        "product_lines": [seller.lines[0][0]],
        "deal_type": "new",
        "amount": {"amount": "12000", "currency": seller.place.currency},
        "expected_close_on": close.isoformat(),
        "business_problem": "Stock counts are two weeks old when they reach head office.",
    }


def _ask(settings: Settings, kind: str, subject: UUID, actor: Actor, data: dict[str, Any]) -> None:
    """Send a command through its topic; raises Unavailable with the sentence if it is not accepted."""
    command = Envelope("demo-deadlines", str(uuid4()), f"prm.{kind}", subject, actor, orjson.dumps(data))
    outcome = send_one(settings, command)
    if outcome["outcome"] != "accepted":
        raise Unavailable(f"{kind}: {outcome.get('message', outcome['outcome'])}")
