"""Fitting the matcher's weights to labelled pairs, and judging them: precision, recall, F1.

The weights are those of a logistic regression in which no evidence may change its side: each weight has the sign that
`EVIDENCE` gives it. Fitting needs scipy (the extra `fit`); scoring does not.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml
from pydantic import ValidationError

from prm_es.errors import Usage
from prm_es.matching.compare import Match, Strength, compare, score_of
from prm_es.matching.evidence import Evidence, evidence_of
from prm_es.matching.frequencies import Counted, Frequencies
from prm_es.matching.identity import Identity, Record, identity_of
from prm_es.matching.sentence import sentence
from prm_es.matching.weights import EVIDENCE, Sum, Weights, default
from prm_es.pairs import GivenPair, read_pairs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_STIFFNESS: Final = 1.0  # holds weights near 0 that few pairs speak for
_MARGIN: Final = 2.5  # by how many times less likely than probable a possible match may be


@dataclass(frozen=True)
class Known:
    """Pairs with their records folded, each once, and what is common among them."""

    pairs: Sequence[GivenPair]
    identities: dict[Record, Identity]
    facts: Frequencies

    def sides(self, pair: GivenPair) -> tuple[Identity, Identity]:
        """Give both records of a pair, folded."""
        return self.identities[pair.left], self.identities[pair.right]

    def match(self, pair: GivenPair, weights: Weights) -> Match:
        """Compare a pair."""
        return compare(*self.sides(pair), self.facts, weights)


def known(pairs: Iterable[GivenPair]) -> Known:
    """Fold every record once, and count what is common among them."""
    given = list(pairs)
    identities = {record: identity_of(record) for pair in given for record in (pair.left, pair.right)}
    return Known(given, identities, Counted(identities.values()))


@dataclass(frozen=True, slots=True)
class Quality:
    """How well scores part the pairs that are the same from the others, at a threshold."""

    threshold: float
    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """The harmonic mean of both, 0 if nothing was found."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def quality(scores: Sequence[float], same: Sequence[bool], threshold: float) -> Quality:
    """Judge scores at a threshold."""
    found = [truth for score, truth in zip(scores, same, strict=True) if score >= threshold]
    right = sum(found)
    return Quality(threshold, right / len(found) if found else 0.0, right / sum(same) if any(same) else 0.0)


def best(scores: Sequence[float], same: Sequence[bool]) -> Quality:
    """Give the quality at the threshold where F1 is highest."""
    ordered = sorted(zip(scores, same, strict=True), reverse=True)
    total = sum(same)
    right = 0
    found = Quality(1.0, 0.0, 0.0)
    for count, (score, truth) in enumerate(ordered, 1):
        right += truth
        if count == len(ordered) or ordered[count][0] < score:
            one = Quality(score, right / count, right / total if total else 0.0)
            found = max(found, one, key=lambda quality: quality.f1)
    return found


def labelled(pairs: Iterable[GivenPair]) -> Sequence[GivenPair]:
    """Give the pairs that say whether they are the same; raises Usage unless there are some of either kind."""
    given = [pair for pair in pairs if pair.same is not None]
    if len({pair.same for pair in given}) < 2:  # noqa: PLR2004 - both kinds
        raise Usage("there must be labelled pairs of both kinds, some the same and some not")
    return given


def fit(given: Known, version: int, persons: Known | None = None) -> Weights:
    """Fit weights to labelled pairs; probable is where F1 on them is highest. Raises Usage without the extra `fit`.

    Those of private persons, if there are pairs of such, are fitted apart.
    """
    found = _evidence(given)
    same = [bool(pair.same) for pair in given.pairs]
    fitted = _fitted(found, same)
    draft = Weights(version=version, probable=0.5, possible=0.2, **fitted.model_dump())
    at = best([score_of(one, draft) for one in found], same).threshold
    probable = round(min(max(at, 0.2), 0.9), 2)
    own = _fitted_to_persons(persons) if persons else None
    return draft.model_copy(update={"probable": probable, "possible": round(probable / _MARGIN, 2), "persons": own})


def _fitted_to_persons(given: Known) -> Sum:
    """Fit to the pairs that may be of two persons: what lacks a home or shows a company's sign is judged as others."""
    both = [(one, bool(pair.same)) for one, pair in zip(_evidence(given), given.pairs, strict=True) if one.persons]
    if len({same for _one, same in both}) < 2:  # noqa: PLR2004 - both kinds
        raise Usage("there must be labelled pairs of persons of both kinds, with their homes")
    return _fitted([one for one, _same in both], [same for _one, same in both])


def _evidence(given: Known) -> Sequence[Evidence]:
    return [evidence_of(*given.sides(pair), given.facts) for pair in given.pairs]


def _fitted(found: Sequence[Evidence], same: Sequence[bool]) -> Sum:
    try:
        import numpy as np  # noqa: PLC0415 - of the extra `fit`
    except ImportError:
        raise Usage("fitting needs scipy: pip install 'prm-es[fit]'") from None
    names = list(EVIDENCE)
    rows = np.array([[one.values.get(name, 0.0) for name in names] for one in found])
    start, *weighed = _minimum(rows, np.array(same))
    evidence = {name: round(weight, 3) for name, weight in zip(names, weighed, strict=True) if abs(weight) >= 0.0005}  # noqa: PLR2004 - 0 when rounded
    return Sum(start=round(start, 3), evidence=evidence)


def _minimum(rows: "NDArray[np.float64]", same: "NDArray[np.bool_]") -> Sequence[float]:
    import numpy as np  # noqa: PLC0415 - of the extra `fit`
    from scipy.optimize import minimize  # noqa: PLC0415 - likewise

    signs = [one.sign for one in EVIDENCE.values()]
    matrix = np.hstack([np.ones((len(rows), 1)), rows])
    sides = np.where(same, 1.0, -1.0)

    def loss(weights: Any) -> Any:  # noqa: ANN401 - scipy's
        margins = sides * (matrix @ weights)
        slope = -(matrix * (sides / (1 + np.exp(np.clip(margins, -500, 500))))[:, None]).sum(axis=0)
        slope[1:] += _STIFFNESS * weights[1:]
        return np.logaddexp(0, -margins).sum() + _STIFFNESS * (weights[1:] ** 2).sum() / 2, slope

    bounds = [(None, None), *((0, None) if sign > 0 else (None, 0) for sign in signs)]
    found = minimize(
        loss, np.zeros(matrix.shape[1]), jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": 1000}
    )
    return [float(weight) for weight in found.x]


# For people


@dataclass(frozen=True, slots=True)
class Scored:
    """A pair with what the matcher says of it."""

    line: int
    pair: GivenPair
    match: Match

    @property
    def row(self) -> Sequence[object]:
        """Give it as `COLUMNS` names it."""
        return (
            self.line,
            self.pair.left.name,
            self.pair.right.name,
            self.pair.same,
            self.match.score,
            self.match.strength.value,
            sentence(self.match),
        )


COLUMNS: Final = ("line", "left", "right", "same", "score", "strength", "sentence")


def pairs_in(path: Path) -> Sequence[GivenPair]:
    """Read a file of pairs; raises Usage."""
    try:
        with path.open("rb") as file:
            return list(read_pairs(file, str(path)))
    except OSError as error:
        raise Usage(f"{path}: {error.strerror}") from None


def weights_in(path: Path | None) -> Weights:
    """Read weights, those shipped without a path; raises Usage with one line a mistake."""
    if path is None:
        return default()
    try:
        return Weights.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise Usage(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Usage(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        lines = (f"{path}: {'.'.join(map(str, e['loc'])) or 'weights'}: {e['msg']}" for e in error.errors())
        raise Usage("\n".join(lines)) from None


def scored(given: Known, weights: Weights) -> Sequence[Scored]:
    """Compare every pair."""
    return [Scored(line, pair, given.match(pair, weights)) for line, pair in enumerate(given.pairs, 1)]


def summary(found: Sequence[Scored]) -> Sequence[str]:
    """Say how well hard and probable matches agree with the labels, if there are labels of both kinds."""
    known_ones = [one for one in found if one.pair.same is not None]
    same = [bool(one.pair.same) for one in known_ones]
    if len(set(same)) < 2:  # noqa: PLR2004 - both kinds
        return [f"{len(found)} pairs"]
    told = quality([float(one.match.strength in _SAME) for one in known_ones], same, 1.0)
    top = best([one.match.score for one in known_ones], same)
    quality_told = f"precision {told.precision:.3f}, recall {told.recall:.3f}, F1 {told.f1:.3f}"
    return [
        f"{len(found)} pairs; hard or probable: {quality_told}",
        f"F1 would be highest at a score of {top.threshold:.3f}: {top.f1:.3f}",
    ]


_SAME: Final = frozenset((Strength.HARD, Strength.PROBABLE))


def as_yaml(weights: Weights) -> str:
    """Write weights as the shipped file is written, with what each piece of evidence means."""
    lines = ["# What each piece of evidence adds to the log odds that two records are the same customer."]
    head = {name: getattr(weights, name) for name in ("version", "probable", "possible", "start")}
    lines += yaml.safe_dump(head, sort_keys=False).splitlines()
    lines += _weighed(weights)
    if weights.persons:
        lines += ["persons:", f"  start: {weights.persons.start}"]
        lines += [f"  {line}" for line in _weighed(weights.persons)]
    return "\n".join(lines) + "\n"


def _weighed(given: Sum) -> Sequence[str]:
    return [
        "evidence:",
        *(
            f"  {f'{name}: {given.evidence[name]}':<26} # {kind.means}"
            for name, kind in EVIDENCE.items()
            if name in given.evidence
        ),
    ]
