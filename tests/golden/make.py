"""Write the golden file of every event type that has none yet. What is there is never touched: it has been stored.

It also lists them with their digests in stored.sha256, to which lines are only ever added.

Run it once for each new event type: python tests/golden/make.py
"""

import base64
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import BaseModel

from prm_es.aggregates import policy
from prm_es.aggregates.base import Event
from prm_es.aggregates.catalogue import EVENTS
from prm_es.aggregates.fields import TaxId
from prm_es.store.vault import Plan, plan_of

FOLDER: Final = Path(__file__).parent
KEY_ID: Final = UUID("6a1f0c1e-93a4-4a0e-8a55-0d7c5b1f2e3d")
KEY: Final = bytes(range(32))
SECRET: Final = "Contagem de estoque às segundas-feiras"
INDIVIDUALS: Final = {"prm.lead.corrected.v1", "prm.opportunity.details_changed.v1", "prm.partner.profile_updated.v1"}

_KNOWN: Final[dict[str, Any]] = {
    "document": policy.default().model_dump(mode="json"),
    "stage": "qualified",
    "previous": "prospect",
    "probability": 25,
    "category": "best_case",
    "stage_category": "pipeline",
    "policy_version": 3,
    "currency": "BRL",
    "country": "BR",
    "domains": ("lojas-sul.example",),
    "types": ("reseller", "integrator"),
    "status": "active",
    "missing": ("amount", "next_action"),
    "deal_type": "expansion",
    "partner_role": "selling",
    "visibility": "internal",
    "metric": "won_amount",
    "period": "2026",
    "target": Decimal("1000000.0000"),
    "distribution": (Decimal("8.33"),) * 11 + (Decimal("8.37"),),
    "changed": ("domains", "contact"),
    "tax_keys": ("BR:cnpj:11222333000181",),
    "value": "11222333000181",
    "type": "revenue",
    "role": "partner_rep",
    "percent": Decimal("62.50"),
    "quantity": Decimal("1.500"),
    "amount": Decimal("10005534.00"),
}
_BY_TYPE: Final[dict[Any, Any]] = {
    int: 12,
    bool: True,
    UUID: UUID("0b8f4a52-7c1d-4a55-9f0e-3d2c1b0a9f8e"),
    date: date(2026, 3, 31),
    datetime: datetime(2026, 3, 10, 12, 30, 0, 123456, tzinfo=UTC),
    timedelta: timedelta(hours=16, minutes=30, microseconds=123456),
    Decimal: Decimal("12.30"),
}


def token() -> str:
    """Seal as the vault does, but with a fixed nonce."""
    nonce = bytes(12)
    sealed = nonce + AESGCM(KEY).encrypt(nonce, SECRET.encode(), KEY_ID.bytes)
    return f"~1.{KEY_ID.hex}.{base64.b64encode(sealed).decode()}"


def example(wire: str) -> bytes:
    """Give the data of an event with every field filled, as it is stored."""
    event = EVENTS[wire]
    made: Event = _model(event, plan_of(event), individual=wire in INDIVIDUALS)
    return made.model_dump_json(exclude_none=True).encode()


def main(folder: Path = FOLDER) -> int:
    """Write what is missing; give 1 if a stored form is no longer what its file says."""
    changed = 0
    for wire in EVENTS:
        path = folder / f"{wire}.json"
        if not path.exists():
            path.write_bytes(example(wire))
            print(f"{path.name} written")  # noqa: T201
        elif path.read_bytes() != example(wire):
            print(f"{path.name} is kept: it is stored in this form")  # noqa: T201
            changed = 1
    stored = folder / "stored.sha256"
    lines = stored.read_text().splitlines() if stored.exists() else []
    listed = {line.split()[1] for line in lines}
    new = [one for one in sorted(folder.glob("*.json")) if one.name not in listed]
    stored.write_text("".join(f"{line}\n" for line in [*lines, *map(_sum, new)]))
    return changed


def _sum(path: Path) -> str:
    return f"{sha256(path.read_bytes()).hexdigest()}  {path.name}"


def _model(model: type[Any], plan: Plan, *, individual: bool) -> Any:
    hints = get_type_hints(model)
    known = {"kind": "cpf" if individual else "cnpj"} if model is TaxId else {}
    values = {
        name: known.get(name) or _value(name, hints[name], plan.get(name), individual=individual)
        for name in model.model_fields
    }
    return model(**values)


def _value(name: str, hint: Any, part: Any, *, individual: bool) -> Any:
    arguments = [one for one in get_args(hint) if one not in (NoneType, Ellipsis)]
    kind = get_origin(hint) or hint
    if kind in (Union, UnionType):
        return _value(name, arguments[0], part, individual=individual)
    if part in ("aggregate", "person") or (part == "customer" and individual):
        return token()
    known = _KNOWN.get(name)
    if known is not None and isinstance(known, kind):
        return known
    if kind is tuple:
        return (_value(name, arguments[0], part, individual=individual),)
    if issubclass(kind, BaseModel):
        return _model(kind, part or {}, individual=individual)
    return _BY_TYPE.get(kind, f"{name}: ação 1")


if __name__ == "__main__":
    sys.exit(main())
