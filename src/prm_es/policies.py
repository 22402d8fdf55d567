"""Loading policies: each version is appended whole to the stream of policies, and holds from its effective_from on.

A version is loaded once and never changed. An old decision keeps the version that it was made by: its event names it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import orjson

from prm_es.aggregates import policy
from prm_es.aggregates.catalogue import parse_event, wire_type
from prm_es.aggregates.policy import Policy, PolicyLoaded
from prm_es.errors import Usage
from prm_es.messages import Actor, Envelope, Recorded, Role, stored_state, utc_text
from prm_es.store.store import NewEvent, Store, Writes

SOURCE: Final = "prm-es-cli"
MAY_LOAD: Final = (Role.VENDOR_ADMIN,)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of a load. `position` is the event's, None if the same version was there already."""

    version: int
    effective_from: datetime
    position: int | None


@dataclass(frozen=True, slots=True)
class NotLoaded:
    """Why a policy was not loaded; nothing was changed."""

    sentence: str


def load_policy(store: Store, given: Policy, actor: Actor) -> Loaded | NotLoaded:
    """Append a policy to its stream, under the append lock. The same version with the same content is there already.

    Refused are another content under a version that is there, and a version that is not above all others.
    """
    if actor.role not in MAY_LOAD:
        return NotLoaded(f"{actor.role} may not load a policy; {', '.join(MAY_LOAD)} may")
    with store.batch() as batch:
        events = batch.streams({policy.STREAM: 0}).get(policy.STREAM, [])
        known = versions(events)
        same = next((one for one in known if one.version == given.version), None)
        if same == given:
            return Loaded(given.version, given.effective_from, None)
        highest = max(one.version for one in known)
        if same is not None:
            return NotLoaded(
                f"version {given.version} was loaded before with another content: a version is never changed;"
                f" make it version {highest + 1}"
            )
        if given.version < highest:
            return NotLoaded(f"version {given.version} is below {highest}, which is loaded: make it {highest + 1}")
        event = PolicyLoaded(document=given.model_dump(mode="json"))
        data = event.model_dump_json().encode()
        cause = _cause(given, actor, data)
        state = stored_state(batch.head.at, batch.head.at, cause, data)
        batch.write(Writes(events=[NewEvent(policy.STREAM, len(events) + 1, wire_type(event), state)]))
        return Loaded(given.version, given.effective_from, batch.head.position + 1)


def _cause(given: Policy, actor: Actor, data: bytes) -> Envelope:
    return Envelope(
        source=SOURCE,
        id=f"policy-{given.version}",
        type="prm.policy.load",
        subject=policy.STREAM,
        actor=actor,
        data=data,
    )


def versions(events: Iterable[Recorded]) -> Sequence[Policy]:
    """Give every policy there is, the shipped one first, then as they were loaded."""
    loaded = (parse_event(event.type, event.data) for event in events)
    documents = (event.document for event in loaded if isinstance(event, PolicyLoaded))
    return [policy.default(), *map(Policy.model_validate, documents)]


def known_policies(store: Store) -> Sequence[Policy]:
    """Give every policy there is, as `versions` does, from the store."""
    return versions(store.stream(policy.STREAM))


def chosen(store: Store, given: str) -> Policy:
    """Give the policy of a version that was loaded, or of a file; raises Usage."""
    if not given.isdecimal():
        return policy.read(Path(given))
    by_version = {one.version: one for one in known_policies(store)}
    if int(given) not in by_version:
        raise Usage(f"there is no policy version {given}; there are: {', '.join(map(str, by_version))}")
    return by_version[int(given)]


def as_yaml(shown: Policy) -> str:
    """Write a policy as YAML that can be loaded again, its fields in the order of the shipped file."""
    import yaml  # noqa: PLC0415 - slow to load, and for this only

    text: str = yaml.safe_dump(shown.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)
    return text


def as_json(shown: Policy) -> str:
    """Write a policy as JSON; JSON is YAML, so that it can be loaded again too."""
    return orjson.dumps(shown.model_dump(mode="json"), option=orjson.OPT_INDENT_2).decode()


def headline(shown: Policy) -> str:
    """Say in one line which policy this is."""
    return f"policy version {shown.version}, effective from {utc_text(shown.effective_from)}"
