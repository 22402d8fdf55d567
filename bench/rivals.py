"""What our matcher is measured beside: Splink, and a rule of rapidfuzz such as many write by hand.

Both are given the same fields of the same pairs, folded as their users would: lower case, no accents, phones by their
last digits, domains without www. Splink learns from the pairs without labels, as it is meant to.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rapidfuzz import fuzz

from prm_es.matching.folding import ascii_text
from prm_es.matching.identity import Record, domain_of, mail_domain_of
from prm_es.pairs import GivenPair

_COLUMNS: Final = ("name", "address", "postcode", "city", "phone", "domain")


def _plain(record: Record) -> Mapping[str, str | None]:
    def folded(text: str | None) -> str | None:
        return " ".join(ascii_text(text).lower().split()) if text else None

    phone = "".join(one for one in (record.phones or ("",))[0] if one.isdigit())[-8:]
    domains = (*map(domain_of, record.domains), *map(mail_domain_of, record.emails))
    return {
        "name": folded(record.name),
        "address": folded(record.address),
        "postcode": "".join(one for one in record.postcode if one.isalnum()).lower() if record.postcode else None,
        "city": folded(record.city),
        "phone": phone or None,
        "domain": next(filter(None, domains), None),
    }


def rule_scores(pairs: Sequence[GivenPair]) -> Sequence[float]:
    """Score pairs by the likeness of the names, with something on top for each other field that agrees."""
    scores = []
    for pair in pairs:
        one, other = _plain(pair.left), _plain(pair.right)
        name = fuzz.token_sort_ratio(one["name"] or "", other["name"] or "") / 100
        agree = sum(one[field] == other[field] for field in _COLUMNS[2:] if one[field] and other[field])
        address = (
            fuzz.token_set_ratio(one["address"], other["address"]) > 85
            if one["address"] and other["address"]
            else False
        )
        scores.append(name + 0.1 * (agree + address))
    return scores


def splink_scores(pairs: Sequence[GivenPair]) -> Sequence[float]:
    """Score pairs by Splink: likeness of names and addresses in steps, the rest exact, rare values weighing more."""
    import pandas as pd  # noqa: PLC0415 - slow to load, for this only
    import splink.comparison_library as cl  # noqa: PLC0415
    from splink import DuckDBAPI, Linker, SettingsCreator, block_on  # noqa: PLC0415

    logging.getLogger("splink").setLevel(logging.ERROR)
    sides = []
    for side in ("left", "right"):
        rows = [{"unique_id": place, "pair": place, **_plain(getattr(pair, side))} for place, pair in enumerate(pairs)]
        sides.append(pd.DataFrame(rows))
    used = [name for name in _COLUMNS if sides[0][name].notna().any() and sides[1][name].notna().any()]
    database = DuckDBAPI()
    tables = [database.register(side, table_name=f"side_{place}") for place, side in enumerate(sides)]
    linker = _linker(tables, used, cl, Linker, SettingsCreator, block_on)
    linker.training.estimate_u_using_random_sampling(max_pairs=1_000_000, seed=1)
    linker.training.estimate_parameters_using_expectation_maximisation(
        block_on("pair"), estimate_without_term_frequencies=True, record_sample_proportion=1.0
    )
    found = linker.inference.predict().as_pandas_dataframe()
    scores = dict(zip(found["unique_id_l"], found["match_weight"], strict=True))
    return [float(scores.get(place, -100.0)) for place in range(len(pairs))]


def _linker(sides: Any, used: Sequence[str], cl: Any, linker: Any, settings: Any, block_on: Any) -> Any:
    comparisons = {
        "name": lambda: cl.JaroWinklerAtThresholds("name", [0.97, 0.92, 0.85, 0.7]).configure(
            term_frequency_adjustments=True
        ),
        "address": lambda: cl.JaroWinklerAtThresholds("address", [0.95, 0.88, 0.75]),
        "postcode": lambda: cl.LevenshteinAtThresholds("postcode", [1, 2]),
        "city": lambda: cl.JaroWinklerAtThresholds("city", [0.92]).configure(term_frequency_adjustments=True),
        "phone": lambda: cl.ExactMatch("phone").configure(term_frequency_adjustments=True),
        "domain": lambda: cl.ExactMatch("domain").configure(term_frequency_adjustments=True),
    }
    return linker(
        sides,
        settings(
            link_type="link_only",
            comparisons=[comparisons[name]() for name in used],
            blocking_rules_to_generate_predictions=[block_on("pair")],
            retain_matching_columns=False,
        ),
        log_level="ERROR",
    )
