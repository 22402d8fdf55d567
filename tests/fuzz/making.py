"""Records for the command topics, by a seed: a few good ones, and bad ones of every kind.

Bytes of chance; commands of the demo's scenario with something dropped, swapped, added, nested or torn; and data drawn
by hypothesis from the published schemas, which is well formed and means nothing.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import cache
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from prm_es.dispatch import Record
from prm_es.messages import STRUCTURED, Role, structured_command
from prm_es.upstream.demo import scenario

UNTIL: Final = date(2026, 6, 30)
SCHEMAS: Final = Path(__file__).parents[2] / "schemas" / "commands"
DRAWN: Final = 1_000  # data from the schemas; each is sent many times, in other company
GOOD, BYTES, SCHEMA = 0.1, 0.25, 0.5  # up to where chance gives which kind; above, a torn command

Json = dict[str, Any]
Headers = list[tuple[str, bytes | None]]

# Values that have broken programs: written as JSON, some of them no JSON at all.
NASTY: Final[Sequence[str]] = (
    "null", "true", '""', '" "', '"\\u0000"', '"\\ud800"', '"\\u202e"', '"' + "a" * 300 + '"', '"' + "x" * 70_000 + '"',
    "-1", "0", "9223372036854775808", "1" + "0" * 400, "1e400", "-0.0", "0.1000000000000000055", "NaN", "Infinity",
    '"2026-13-45"', '"0001-01-01T00:00:00Z"', '"9999-12-31T23:59:59.999999-23:59"', "1767225600",
    '"00000000-0000-0000-0000-000000000000"', '"~1.' + "0" * 32 + '.AAAA"', '"prm-es:conflicts"', '"=cmd()"',
    "[]", "{}", "[[]]", "[" * 3_000 + "]" * 3_000, '{"a":' * 1_500 + "1" + "}" * 1_500, '["", null, 1]', '{"": {}}',
)  # fmt: skip
_CONTENT_TYPES: Final = (STRUCTURED.encode(), b"application/json", b"text/plain; charset=latin-1", b"", b"\xff\xfe")
_MARK: Final = "\x01nasty\x01"  # stands for a value that the writer of JSON could not write


@cache
def drawn(seed: int) -> Sequence[tuple[str, Any]]:
    """Give data that fits the schema of its command, with the type of the command."""
    schemas = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(SCHEMAS.glob("*.json"))}
    strategies = {name: _fitting(schema, schema.get("$defs", {})) for name, schema in schemas.items()}
    names = st.sampled_from(sorted(strategies))
    found: list[tuple[str, Any]] = []

    @seeded(seed)
    @settings(
        max_examples=DRAWN,
        phases=(Phase.generate,),
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(names.flatmap(lambda name: st.tuples(st.just(name), strategies[name])))
    def collect(one: tuple[str, Any]) -> None:
        found.append(one)

    collect()
    return found


def _fitting(schema: Json, named: Json) -> st.SearchStrategy[Any]:
    """Give a strategy for what fits a schema, of the words that the published ones use."""
    if "$ref" in schema:
        return st.deferred(lambda: _fitting(named[schema["$ref"].rpartition("/")[2]], named))
    if "anyOf" in schema:
        return st.one_of([_fitting(one, named) for one in schema["anyOf"]])
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum", [schema.get("const")]))
    match schema.get("type"):
        case "object":
            parts = {name: _fitting(one, named) for name, one in schema.get("properties", {}).items()}
            required = {name: parts.pop(name) for name in schema.get("required", ())}
            return st.fixed_dictionaries(required, optional=parts)
        case "array":
            fewest = schema.get("minItems", 0)
            return st.lists(_fitting(schema["items"], named), min_size=fewest, max_size=fewest + 2)
        case "string":
            return _text(schema)
        case kind:
            return _number(schema) if kind in ("integer", "number") else _SIMPLE.get(kind, _ANYTHING)


def _number(schema: Json) -> st.SearchStrategy[Any]:
    bounds = schema.get("minimum"), schema.get("maximum")
    return st.integers(*bounds) if schema["type"] == "integer" else st.floats(*bounds, allow_nan=False)


def _text(schema: Json) -> st.SearchStrategy[str]:
    match schema:
        case {"format": "date"}:
            return st.dates().map(date.isoformat)
        case {"format": "date-time"}:
            return st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat)
        case {"format": "uuid"}:
            return st.uuids().map(str)
        case {"pattern": pattern}:
            return st.from_regex(str(pattern))
        case _:
            fewest = schema.get("minLength", 0)
            return st.text(min_size=fewest, max_size=fewest + 20)


_SIMPLE: Final[Mapping[Any, st.SearchStrategy[Any]]] = {"boolean": st.booleans(), "null": st.none()}
_ANYTHING: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def records(seed: int, topics: Sequence[str]) -> Iterator[Record]:
    """Give records without end, the same ones for the same seed."""
    random = Random(seed)
    good = (structured_command(sent) for number in count(seed) for sent in scenario(number, UNTIL))
    known: list[Json] = [next(good) for _ in range(500)]
    for offset in count(1):
        headers: Headers
        value: bytes | None
        chance = random.random()
        if chance < GOOD:
            known[random.randrange(len(known))] = sent = next(good)
            headers, value = _written(random, sent, json.dumps(sent["data"]))
        elif chance < BYTES:
            headers, value = _bytes(random)
        elif chance < SCHEMA:
            wire, data = random.choice(drawn(seed))
            sent = {
                **random.choice(known),
                "type": wire,
                "id": f"drawn-{offset}",
                "actorrole": random.choice(list(Role)),
            }
            headers, value = _written(random, sent, json.dumps(data))
        else:
            headers, value = _torn(random, random.choice(known), offset)
        yield Record(random.choice(topics), random.randrange(12), offset, headers, value)


def _written(random: Random, sent: Json, data: str) -> tuple[Headers, bytes]:
    """Write a command in either of the two content modes; `data` is its data's text."""
    attributes = {name: part for name, part in sent.items() if name not in ("data", "datacontenttype")}
    if random.random() < 0.5:
        content = {**attributes, "data": _MARK}
        return [("content-type", STRUCTURED.encode())], _json(content).replace(json.dumps(_MARK), data).encode()
    headers: Headers = [(f"ce_{name}", _header(part)) for name, part in attributes.items()]
    return [*headers, ("content-type", b"application/json")], data.encode()


def _header(part: object) -> bytes:
    return (part if isinstance(part, str) else json.dumps(part)).encode("utf-8", "surrogatepass")


def _json(content: object) -> str:
    return json.dumps(content, separators=(",", ":"))


def _bytes(random: Random) -> tuple[Headers, bytes | None]:
    names = ("ce_specversion", "ce_id", "ce_type", "content-type", "ce_\xff", "", "traceparent")
    headers: Headers = [
        (random.choice(names), random.choice((None, b"", b"1.0", random.randbytes(random.randrange(40)))))
        for _ in range(random.randrange(6))
    ]
    if random.random() < 0.5:
        headers.append(("content-type", random.choice(_CONTENT_TYPES)))
    value = random.choice((None, b"", b"null", b"[]", b"{", b"\xef\xbb\xbf{}", random.randbytes(random.randrange(400))))
    return headers, value


def _torn(random: Random, sent: Json, offset: int) -> tuple[Headers, bytes | None]:
    """Give a command with something wrong with it, in one place or a few."""
    torn: Json = json.loads(json.dumps(sent))
    if random.random() < 0.8:
        torn["id"] = f"torn-{offset}"
    nasty: list[str] = []
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        random.choice(_TEARS)(random, torn, nasty)
    data = _filled(_json(torn.get("data")), nasty)
    headers, value = _written(random, {name: _clean(part, nasty) for name, part in torn.items()}, data)
    if random.random() < 0.2:
        random.choice(_WRONG_HEADERS)(random, headers)
    return headers, _damaged(random, value) if random.random() < 0.2 else value


def _filled(text: str, nasty: Sequence[str]) -> str:
    for number, value in enumerate(nasty):
        text = text.replace(json.dumps(f"{_MARK}{number}"), value)
    return text


def _clean(part: object, nasty: Sequence[str]) -> object:
    """Give an attribute as it can be written: headers are texts."""
    if isinstance(part, str) and part.startswith(_MARK):
        return nasty[int(part.removeprefix(_MARK))].strip('"')
    return part


def _holders(content: Any) -> Iterator[Any]:
    """Give every object and array in a JSON value."""
    if isinstance(content, dict | list):
        yield content
        for part in content.values() if isinstance(content, dict) else content:
            yield from _holders(part)


def _place(random: Random, torn: Json) -> tuple[Any, Any] | None:
    holder = random.choice([one for one in _holders(torn) if one] or [torn])
    if not holder:
        return None
    return holder, random.choice(list(holder)) if isinstance(holder, dict) else random.randrange(len(holder))


def _drop(random: Random, torn: Json, _nasty: list[str]) -> None:
    if place := _place(random, torn):
        del place[0][place[1]]


def _swap(random: Random, torn: Json, nasty: list[str]) -> None:
    if place := _place(random, torn):
        place[0][place[1]] = f"{_MARK}{len(nasty)}"
        nasty.append(random.choice(NASTY))


def _add(random: Random, torn: Json, nasty: list[str]) -> None:
    holder = random.choice([one for one in _holders(torn) if isinstance(one, dict)] or [torn])
    holder[random.choice(("x", "", "data", "version", "a" * 300, "\u202e", "__class__"))] = f"{_MARK}{len(nasty)}"
    nasty.append(random.choice(NASTY))


def _move(random: Random, torn: Json, _nasty: list[str]) -> None:
    """Put a value where another belongs."""
    if (here := _place(random, torn)) and (there := _place(random, torn)):
        here[0][here[1]] = json.loads(json.dumps(there[0][there[1]]))


def _retype(random: Random, torn: Json, _nasty: list[str]) -> None:
    torn["type"] = random.choice(("prm.lead.approve", "prm.lead.", "prm..", "lead.register", "prm.policy.load", "PRM"))


def _rerole(random: Random, torn: Json, _nasty: list[str]) -> None:
    torn["actorrole"] = random.choice((*Role, "root", ""))


_TEARS: Final[Sequence[Callable[[Random, Json, list[str]], None]]] = (
    _drop, _swap, _swap, _swap, _add, _move, _retype, _rerole,
)  # fmt: skip


def _twice(random: Random, headers: Headers) -> None:
    headers.append(random.choice(headers))


def _lost(random: Random, headers: Headers) -> None:
    headers.pop(random.randrange(len(headers)))


def _blank(random: Random, headers: Headers) -> None:
    place = random.randrange(len(headers))
    headers[place] = headers[place][0], random.choice((None, b"", b"\xff\xfe", b"\x00"))


def _upper(random: Random, headers: Headers) -> None:
    place = random.randrange(len(headers))
    headers[place] = headers[place][0].upper(), headers[place][1]


_WRONG_HEADERS: Final = (_twice, _lost, _blank, _upper)


def _damaged(random: Random, value: bytes | None) -> bytes | None:
    if not value:
        return value
    place = random.randrange(len(value))
    return random.choice(
        (value[:place], value[:place] + random.randbytes(1) + value[place + 1 :], value + value, value[place:])
    )
