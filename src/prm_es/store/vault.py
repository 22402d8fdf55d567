"""Personal data is never in clear in the log: fields marked `Sealed` become tokens before an event is stored.

A token is `~1.` + key id (hex) + `.` + base64 of nonce and AES-256-GCM ciphertext, with the key id as associated data.
Destroying a key makes all its tokens unreadable, wherever they were copied.
"""

import base64
import hmac
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from hashlib import sha256
from types import UnionType
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints
from uuid import UUID, uuid5

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import BaseModel

from prm_es.aggregates.fields import Sealed, TaxId, optional
from prm_es.messages import NAMESPACE

Plan = Mapping[str, Any]
KeyOf = Callable[[UUID, str], bytes]
Sealable = TypeVar("Sealable", bound=BaseModel)

TOKEN: Final = re.compile(r"~1\.([0-9a-f]{32})\.([A-Za-z0-9+/=]+)")
TOKEN_PATTERN: Final = f"^{TOKEN.pattern}$"
_NONCE = 12


def new_key() -> bytes:
    """Make a random AES-256 key."""
    return AESGCM.generate_key(256)


def seal_text(text: str, key_id: UUID, key: bytes) -> str:
    """Encrypt one text into a token."""
    nonce = os.urandom(_NONCE)
    sealed = nonce + AESGCM(key).encrypt(nonce, text.encode(), key_id.bytes)
    return f"~1.{key_id.hex}.{base64.b64encode(sealed).decode()}"


def seal_bytes(content: bytes, key_id: UUID, key: bytes) -> bytes:
    """Encrypt bytes as they are: nonce and ciphertext."""
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, content, key_id.bytes)


def open_bytes(sealed: bytes, key_id: UUID, key: bytes) -> bytes:
    """Decrypt what seal_bytes made; raises cryptography's InvalidTag."""
    return AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], key_id.bytes)


def key_ids(text: str) -> set[UUID]:
    """Give the ids of the keys that the tokens in a text were made with."""
    return {UUID(hex=found.group(1)) for found in TOKEN.finditer(text)}


def open_text(token: str, keys: Mapping[UUID, bytes]) -> str | None:
    """Decrypt a token; None if its key is gone or nobody made it. A text that is no token is given back as it is."""
    found = TOKEN.fullmatch(token)
    if found is None:
        return token
    key_id = UUID(hex=found.group(1))
    key = keys.get(key_id)
    if key is None:
        return None
    try:
        return open_bytes(base64.b64decode(found.group(2)), key_id, key).decode()
    except (InvalidTag, ValueError):  # ValueError: a text that only looks like a token
        return None


def opened(value: Any, keys: Mapping[UUID, bytes]) -> Any:  # noqa: ANN401
    """Decrypt every token in a JSON value; what can no longer be read becomes None."""
    match value:
        case str():
            return open_text(value, keys)
        case dict():
            return {name: opened(part, keys) for name, part in value.items()}
        case list():
            return [opened(part, keys) for part in value]
        case _:
            return value


def keyed_digest(digest_key: bytes, content: bytes) -> bytes:
    """Give the keyed digest (HMAC-SHA-256) of some bytes."""
    return hmac.digest(digest_key, content, sha256)


class Vault:
    """Seals events: knows who a person is (a keyed digest) and asks for keys by id and kind."""

    def __init__(self, digest_key: bytes, key_of: KeyOf) -> None:
        self._digest_key = digest_key
        self._key_of = key_of

    def key(self, key_id: UUID, kind: str) -> bytes:
        """Give the key with this id, made now if there is none."""
        return self._key_of(key_id, kind)

    def digest(self, content: bytes) -> bytes:
        """Give the keyed digest of some bytes."""
        return keyed_digest(self._digest_key, content)

    def person(self, text: str) -> UUID:
        """Give the id of the person with this e-mail, phone or individual tax id."""
        return UUID(bytes=self.digest(b"person\n" + text.strip().lower().encode())[:16])

    def seal(self, event: Sealable, subject: UUID) -> Sealable:
        """Give the event with its marked fields sealed: itself if it has none to seal."""
        plan = plan_of(type(event))
        return self._apply(plan, event, subject) if _anything_to_seal(plan, event) else event

    def people(self, message: BaseModel, subject: UUID) -> Iterator[UUID]:
        """Give the ids of the people whom a message about an aggregate names: their keys will be asked for."""
        for value in message.__dict__.values():
            for part in value if isinstance(value, tuple) else (value,):
                if isinstance(part, BaseModel):
                    if "email" in part.__dict__:
                        yield self._person_of(part, subject)
                    if individual := self._individual_of(part):
                        yield individual

    def _apply(self, plan: Plan, model: Sealable, subject: UUID) -> Sealable:
        changes: dict[str, Any] = {}
        person = None
        if "person" in plan.values():
            person = changes["person_id"] = self._person_of(model, subject)
        individual = self._individual_of(model)
        owners = {"aggregate": (subject, "aggregate"), "person": (person, "person"), "customer": (individual, "person")}
        for name, part in plan.items():
            value = getattr(model, name)
            if value is None:
                continue
            if isinstance(part, str):
                owner, kind = owners[part]
                if owner is not None:
                    changes[name] = self._sealed(value, owner, kind)
            elif isinstance(value, tuple):
                changes[name] = tuple(self._apply(part, inner, subject) for inner in value)
            else:
                changes[name] = self._apply(part, value, subject)
        return model.model_copy(update=changes)

    def _sealed(self, value: Any, owner: UUID, kind: str) -> Any:  # noqa: ANN401
        if isinstance(value, tuple):
            return tuple(self._sealed(one, owner, kind) for one in value)
        if not isinstance(value, str) or TOKEN.fullmatch(value):
            return value
        return seal_text(value, owner, self.key(owner, kind))

    def _person_of(self, model: BaseModel, subject: UUID) -> UUID:
        given: UUID | None = optional(model, "person_id")
        if given:
            return given
        if known := optional(model, "email") or optional(model, "phone"):
            return self.person(known)
        name = optional(model, "user_id") or optional(model, "id") or ""
        return uuid5(NAMESPACE, f"person\n{subject}\n{name}")

    def _individual_of(self, model: BaseModel) -> UUID | None:
        for tax_id in (model,) if isinstance(model, TaxId) else optional(model, "tax_ids") or ():
            if tax_id.individual:
                token = TOKEN.fullmatch(tax_id.value)
                return UUID(hex=token.group(1)) if token else self.person(f"{tax_id.country}:{tax_id.value}")
        return None


def _anything_to_seal(plan: Plan, model: BaseModel) -> bool:
    """Look before the costly way is taken: most events carry nothing personal."""
    for name, part in plan.items():
        value = getattr(model, name)
        if value is None or value == ():
            continue
        if not isinstance(part, str):
            if any(_anything_to_seal(part, inner) for inner in (value if isinstance(value, tuple) else (value,))):
                return True
        elif part != "customer" or getattr(model, "individual", False):
            return True
    return False


@cache
def plan_of(model: type[BaseModel]) -> Plan:
    """Give which fields of a message are sealed: field name to how, or to the plan of the model inside it."""
    hints = get_type_hints(model, include_extras=True)
    found = ((name, _part(hints[name])) for name in model.model_fields)
    return {name: part for name, part in found if part}


def _part(hint: Any) -> str | Plan | None:  # noqa: ANN401
    if get_origin(hint) is Annotated:
        inner, *marks = get_args(hint)
        under = next((mark.under for mark in marks if isinstance(mark, Sealed)), None)
        return under or _part(inner)
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return plan_of(hint)
    if get_origin(hint) in (Union, UnionType, tuple, list):
        return next((part for part in map(_part, get_args(hint)) if part), None)
    return None


def all_key_ids(texts: Iterable[str]) -> set[UUID]:
    """Give the ids of the keys used anywhere in the texts."""
    return set().union(*(key_ids(text) for text in texts))
