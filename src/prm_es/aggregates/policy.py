"""The numbers of the domain: versioned, effective-dated, loaded from a file, recorded by version on the events.

A decision takes the policy in force at its business time, so a replay never decides an old case by a new rule.
Defaults: state-machine numbers of the domain contract; reasons and sources in docs/domain.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from prm_es.aggregates.base import Event
from prm_es.aggregates.fields import (
    Country,
    Currency,
    Customer,
    Domain,
    GivenTaxId,
    Phone,
    Postcode,
    Reference,
    Text,
    customer_keys,
)
from prm_es.aggregates.working_time import Calendar, Zone
from prm_es.errors import Usage
from prm_es.matching import weights
from prm_es.matching.weights import Weights
from prm_es.messages import NAMESPACE

STREAM = uuid5(NAMESPACE, "policy")
_EPOCH = date(1970, 1, 2)

Category = Literal["pipeline", "best_case", "commit", "closed", "omitted"]
Duration = Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(days=36_525))]
Limit = Annotated[int, Field(ge=0, le=1_000_000)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Stage(_Part):
    """Chance of winning in percent and forecast category, taken as a snapshot when the stage is entered."""

    probability: Annotated[int, Field(ge=0, le=100)]
    category: Category


class OpportunityNumbers(_Part):
    stages: Mapping[str, Stage]
    reopen_within: Duration
    stalled_after: Duration


class PartnerNumbers(_Part):
    reapply_after: Duration
    at_risk_after: Duration
    dormant_after: Duration


class LeadNumbers(_Part):
    """What a policy that was stored before leads existed means for them stands here as defaults."""

    match_scope: Literal["root", "establishment"] = "root"
    require_authorisation: bool = True
    check_territories: bool = False
    minimum_amounts: Mapping[Currency, Annotated[Decimal, Field(gt=0)]] = {}
    live_registrations: Limit = 25
    tier_factors: Mapping[str, Annotated[Decimal, Field(ge=0, le=1000)]] = {}
    open_leads: Limit = 50
    approve_within: Duration = timedelta(days=2)
    keep_place_within: Duration = timedelta(days=5)
    lapse_after: Duration = timedelta(days=30)
    protection: Duration = timedelta(days=90)
    tier_protection: Mapping[str, Duration] = {}
    captured_protection: Duration = timedelta(days=30)
    reminders: tuple[Duration, ...] = (timedelta(days=30), timedelta(days=14), timedelta(days=7), timedelta(days=1))
    extensions: Limit = 1
    extend_by: Duration = timedelta(days=30)
    extend_activity_within: Duration = timedelta(days=30)
    incumbents_renew: bool = True
    answer_within: Duration = timedelta(hours=24)
    contact_within: Duration = timedelta(hours=72)
    recall_after: Duration = timedelta(days=7)
    availability_questions_per_day: Limit = 50


class NamedAccount(_Part):
    """A company that the vendor keeps for itself: every lead is compared with it. A tax id is COUNTRY:NUMBER."""

    id: Reference
    name: Text
    trade_name: Text | None = None
    country: Country | None = None
    tax_ids: Annotated[tuple[Text, ...], Field(max_length=10)] = ()
    customer_id: Reference | None = None
    domains: Annotated[tuple[Domain, ...], Field(max_length=20)] = ()
    address: Text | None = None
    postcode: Postcode | None = None
    city: Text | None = None
    phone: Phone | None = None
    product_lines: Annotated[tuple[Reference, ...], Field(max_length=50)] = ()

    @model_validator(mode="after")
    def _company(self) -> Self:
        if self.customer.individual:
            raise ValueError("a named account is a company, its tax id no individual's")
        return self

    @property
    def subject(self) -> UUID:
        """Give the id under which matches name it."""
        return uuid5(NAMESPACE, f"named_account\n{self.id}")

    @property
    def customer(self) -> Customer:
        """Give the account as a lead would tell of it."""
        parts = (one.partition(":") for one in self.tax_ids)
        tax_ids = tuple(GivenTaxId(country=country, value=number).stored() for country, _colon, number in parts)
        return Customer(**{**dict(self), "tax_ids": tax_ids})

    @property
    def customer_keys(self) -> Sequence[str]:
        """Give the keys of the account, by establishment and by the whole company: the vendor means all of it."""
        return sorted(customer_keys(self.customer, "root") | customer_keys(self.customer, "establishment"))


class Policy(_Part):
    """One version of the vendor's rules."""

    version: Annotated[int, Field(ge=0)]
    effective_from: datetime
    zone: Zone = "UTC"
    calendar: Calendar = Calendar()
    require_registered_users: bool = False
    product_lines: tuple[str, ...] = ()
    partner: PartnerNumbers
    opportunity: OpportunityNumbers
    lead: LeadNumbers = LeadNumbers()
    named_accounts: Annotated[tuple[NamedAccount, ...], Field(max_length=10_000)] = ()
    matching: Weights = Field(default_factory=weights.default)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        missing = {
            "prospect",
            "qualified",
            "technical_validation",
            "business_validation",
            "committed",
            "won",
            "lost",
        } ^ set(self.opportunity.stages)
        if missing:
            raise ValueError(
                f"opportunity.stages must name each stage once; wrong or missing: {', '.join(sorted(missing))}"
            )
        if self.effective_from.tzinfo is None:
            raise ValueError("effective_from must name its offset from UTC")
        if len({one.id for one in self.named_accounts}) < len(self.named_accounts):
            raise ValueError("named_accounts: each needs an id of its own")
        rest = self.lead.approve_within - timedelta(days=self.lead.approve_within.days)
        if rest > self.calendar.length:
            raise ValueError("lead.approve_within has more hours than a working day: write days")
        return self

    @property
    def working_calendar(self) -> Calendar:
        """Give the vendor's calendar with its zone."""
        return self.calendar if self.calendar.zone else self.calendar.model_copy(update={"zone": self.zone})

    def date_of(self, at: datetime) -> date:
        """Give the calendar date of a time in the policy's zone."""
        return at.astimezone(ZoneInfo(self.zone)).date()

    def start_of(self, day: date) -> datetime:
        """Give the time at which a date begins in the policy's zone, in UTC; nothing is older than 1970."""
        return datetime.combine(max(day, _EPOCH), time(0), ZoneInfo(self.zone)).astimezone(UTC)


class PolicyLoaded(Event):
    """A policy version, whole, as it was loaded. Stored for ever."""

    TYPE: ClassVar[str] = "policy.loaded.v1"
    document: Mapping[str, Any]


def parse(text: str, name: str) -> Policy:
    """Read a policy from YAML; raises Usage with one line a mistake."""
    try:
        return Policy.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise Usage(f"{name} is not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        lines = (f"{name}: {'.'.join(map(str, e['loc'])) or 'policy'}: {e['msg']}" for e in error.errors())
        raise Usage("\n".join(lines)) from None


def read(path: Path) -> Policy:
    """Read a policy file; raises Usage."""
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise Usage(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Usage(f"{path} is not UTF-8") from None


@cache
def default() -> Policy:
    """Give the policy that is shipped, in force until one is loaded."""
    return parse(files(__package__).joinpath("policy.yaml").read_text(encoding="utf-8"), "policy.yaml")


def in_force(policies: Iterable[Policy], at: datetime) -> Policy:
    """Give the policy in force at a time: the latest that is effective, and of those the highest version."""
    effective = [policy for policy in policies if policy.effective_from <= at]
    return max(effective, key=lambda policy: (policy.effective_from, policy.version), default=default())
