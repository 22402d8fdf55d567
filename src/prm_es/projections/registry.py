"""Every read model there is. A new one is a file beside this and a line here."""

from collections.abc import Mapping
from typing import Final

from prm_es.errors import Usage
from prm_es.projections import performance, pipeline
from prm_es.projections.base import ReadModel

READ_MODELS: Final[Mapping[str, ReadModel]] = {model.name: model for model in (pipeline.MODEL, performance.MODEL)}


def named(name: str) -> ReadModel:
    """Give the read model with this name; raises Usage with the names there are."""
    try:
        return READ_MODELS[name]
    except KeyError:
        raise Usage(f"there is no read model {name}; there are: {', '.join(READ_MODELS)}") from None
