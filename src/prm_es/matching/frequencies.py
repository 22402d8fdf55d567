"""How common a word, phone, address, domain or name is: what many share says little of any of them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Final, Literal, Protocol

import yaml

from prm_es.matching.identity import Identity

Kind = Literal["name", "phone", "email", "domain", "address"]


class Frequencies(Protocol):
    """What is known of the records at large."""

    def share(self, token: str) -> float:
        """Give the share of all names that have the folded word, above 0."""
        ...

    def holders(self, kind: Kind, value: str) -> int:
        """Give how many records have the value, 0 if that is not known."""
        ...


COMMON: Final = 1e-3  # share of all names from which on a word by itself tells nobody apart
_RARE: Final = 2e-6
_SHORT: Final = {1: 4e-3, 2: 6e-4, 3: 8e-5, 4: 1.5e-5}


class General:
    """What is common in company names anywhere, by the packaged table; of phones and addresses it knows nothing."""

    def share(self, token: str) -> float:
        """Give the share of a word, by its length if it is not in the table: short ones are met more often."""
        return common_words().get(token) or _SHORT.get(len(token), _RARE)

    def holders(self, kind: Kind, value: str) -> int:  # noqa: ARG002 - the protocol's
        """Give 0: not known."""
        return 0


class Counted:
    """Counted in the records at hand; words that are rare there are as common as in general."""

    def __init__(self, records: Iterable[Identity]) -> None:
        self._general = General()
        self._total = 0
        self._tokens: Counter[str] = Counter()
        self._values: Counter[tuple[Kind, str]] = Counter()
        for record in records:
            self._total += 1
            self._tokens.update({token for name in record.names for token in name.tokens})
            self._values.update(values_of(record))

    def share(self, token: str) -> float:
        """Give the share of a word: the general one counts as much as `_PRIOR` records do."""
        return (self._tokens[token] + _PRIOR * self._general.share(token)) / (self._total + _PRIOR)

    def holders(self, kind: Kind, value: str) -> int:
        """Give how many of the records have the value."""
        return self._values[kind, value]


_PRIOR: Final = 20_000


def values_of(record: Identity) -> set[tuple[Kind, str]]:
    """Give all that `holders` is asked about."""
    found: set[tuple[Kind, str]] = {("name", name.sorted) for name in record.names}
    found |= {("phone", one) for one in record.phones}
    found |= {("email", one) for one in record.emails}
    found |= {("domain", one) for one in record.domains}
    if record.address and record.address.key:
        found.add(("address", record.address.key))
    return found


@cache
def common_words() -> Mapping[str, float]:
    """Give the share of all company names that each word of the packaged table has."""
    given = yaml.safe_load(files(__package__).joinpath("common.yaml").read_text("utf-8"))
    return {word: float(share) for share, lines in given.items() for line in lines for word in line.split()}
