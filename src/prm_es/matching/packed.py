"""An identity as text, so that it is folded once and compared often."""

import orjson

from prm_es.matching.identity import Address, Identity, Name


def pack(identity: Identity) -> str:
    """Write an identity; equal identities give the same text."""
    address = identity.address
    return orjson.dumps(
        [
            sorted(identity.keys),
            [[name.tokens, sorted(name.numbers), sorted(name.forms), name.raw] for name in identity.names],
            identity.country,
            identity.city,
            address and [address.street, address.number, sorted(address.unit)],
            identity.postcode,
            *(sorted(one) for one in (identity.phones, identity.emails, identity.domains)),
        ]
    ).decode()


def city_in(packed: str) -> str | None:
    """Read the city alone of what `pack` wrote."""
    city: str | None = orjson.loads(packed)[3]
    return city


def unpack(packed: str) -> Identity:
    """Read what `pack` wrote."""
    keys, names, country, city, address, postcode, phones, emails, domains = orjson.loads(packed)
    return Identity(
        keys=frozenset(keys),
        names=tuple(
            Name(tuple(tokens), frozenset(numbers), frozenset(forms), tuple(raw))
            for tokens, numbers, forms, raw in names
        ),
        country=country,
        city=city,
        address=address and Address(tuple(address[0]), address[1], frozenset(address[2])),
        postcode=postcode,
        phones=frozenset(phones),
        emails=frozenset(emails),
        domains=frozenset(domains),
    )
