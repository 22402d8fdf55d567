"""What each piece of evidence weighs, and from which score on a pair is probable or possible: one versioned file.

The score is the logistic function of the weighted sum of the evidence, so that a weight is what the evidence adds to
the log odds that both are the same customer. Which evidence there is: `EVIDENCE`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Annotated, Final, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Weight = Annotated[float, Field(ge=-50, le=50)]
Score = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of evidence: 1 speaks for, -1 against, 0 for whatever its weight says."""

    sign: int
    means: str


EVIDENCE: Final[Mapping[str, Kind]] = {
    "name_same": Kind(1, "all words of the names agree, numbers too"),
    "name_rare": Kind(1, "the agreeing words are rare ones (0 to 1)"),
    "name_same_rare": Kind(1, "all words agree, and they are rare (0 to 1)"),
    "name_shared": Kind(1, "the share of the words' weight that both names have (0 to 1)"),
    "name_within": Kind(1, "the share of the shorter name that the longer has (0 to 1)"),
    "name_letters": Kind(1, "likeness of the letters of both names (0 to 1)"),
    "name_head": Kind(1, "the first words agree"),
    "name_short_form": Kind(1, "one name is made of the other's initials"),
    "name_lost": Kind(-1, "weight of what each name has and the other lacks (the lesser of the two, 0 to 1)"),
    "name_more": Kind(-1, "weight of what one name has beyond the other (0 to 1)"),
    "name_swapped": Kind(-1, "each name has a word that the other lacks"),
    "name_house": Kind(-1, "what one name has beyond the other is a word for a holding, a project or a place"),
    "name_other": Kind(-1, "the names have next to nothing in common"),
    "numbers_same": Kind(1, "both names have the same numbers"),
    "numbers_differ": Kind(-1, "the names have different numbers"),
    "numbers_of_one": Kind(
        -1, "the numbers differ, and the names or the ways to reach them agree: projects of one house"
    ),
    "numbers_lack": Kind(-1, "one name has a number, the other none"),
    "forms_differ": Kind(-1, "the names have different legal forms"),
    "reached_same": Kind(1, "the strongest of phone, e-mail, domain and address that agree (0 to 1)"),
    "reached_more": Kind(1, "how much more of these agrees"),
    "reached_and_name": Kind(1, "the strongest of these times the share of the names that agrees"),
    "reached_other": Kind(-1, "the strongest of these, but the names have next to nothing in common"),
    "reached_own": Kind(1, "the web domain that agrees is named like both"),
    "reached_swapped": Kind(-1, "ways to reach them agree, but each name has a word that the other lacks"),
    "domain_is_name": Kind(1, "one's web domain is the other's name"),
    "phone_differs": Kind(-1, "no phone of the one is the other's"),
    "domain_differs": Kind(-1, "no domain of the one is the other's"),
    "address_differs": Kind(-1, "street or number differ"),
    "place_like": Kind(1, "likeness of street, number, postcode and city (0 to 1)"),
    "place_and_name": Kind(1, "that likeness times the share of the names that agrees"),
    "postcode_same": Kind(1, "the postcode agrees"),
    "city_same": Kind(1, "the city agrees"),
    "city_differs": Kind(-1, "the cities differ"),
    "city_and_name": Kind(1, "the city agrees times the share of the names that agrees"),
    "moved": Kind(1, "how many of these differ (of four) although all words agree, and rare ones"),
    "homes_apart": Kind(-1, "of two persons: the places are far from alike (0 to 1)"),
    "country_differs": Kind(-1, "the countries differ"),
}


def _known(evidence: Mapping[str, float]) -> Mapping[str, float]:
    if unknown := sorted(set(evidence) - set(EVIDENCE)):
        raise ValueError(f"no such evidence: {', '.join(unknown)}; there is: {', '.join(EVIDENCE)}")
    if wrong := sorted(name for name, weight in evidence.items() if weight * EVIDENCE[name].sign < 0):
        raise ValueError(f"the sign is wrong, it would turn the evidence round: {', '.join(wrong)}")
    return evidence


Evidence = Annotated[Mapping[str, Weight], AfterValidator(_known)]


class Sum(BaseModel):
    """What is added up: where it starts, and the weight of each kind of evidence; one not named weighs nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    start: Weight
    evidence: Evidence


class Weights(Sum):
    """Fitted by `prm-es match fit`, or written by hand.

    Of two private persons `persons` are the weights, if there are any: a home says more of them than a company's
    address, which sisters and tenants share.
    """

    version: Annotated[int, Field(ge=1)]
    probable: Score
    possible: Score
    persons: Sum | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.possible > self.probable:
            raise ValueError("possible may not be above probable")
        return self


@cache
def default() -> Weights:
    """Give the weights that are shipped."""
    return Weights.model_validate(yaml.safe_load(files(__package__).joinpath("weights.yaml").read_text("utf-8")))
