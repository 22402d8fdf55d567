"""The development issuer's key, in the data folder, and the tokens that it signs."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from joserfc import jwt
from joserfc.jwk import ECKey

from prm_es.errors import Unavailable
from prm_es.files import write_file

ALGORITHM: Final = "ES256"
LASTS_S: Final = 3600
FILE: Final = "issuer.json"


class Signer:
    """Signs with the key of a data folder, made at first use and readable by its owner only."""

    def __init__(self, data: Path, issuer: str) -> None:
        """Read or make the key; raises Unavailable if the file cannot be read."""
        self._key = _key(data / FILE)
        self._issuer = issuer

    @property
    def public(self) -> dict[str, Any]:
        """Give the set of public keys."""
        return {"keys": [self._key.as_dict(private=False, use="sig", alg=ALGORITHM)]}

    def sign(self, audience: str, said: Mapping[str, Any]) -> str:
        """Give a token that says this for an hour."""
        now = int(time.time())
        claims = {**said, "iss": self._issuer, "aud": audience, "iat": now, "exp": now + LASTS_S}
        return jwt.encode({"alg": ALGORITHM, "kid": self._key.kid}, claims, self._key)


def _key(path: Path) -> ECKey:
    try:
        return ECKey.import_key(json.loads(path.read_bytes()))
    except FileNotFoundError:
        made = ECKey.generate_key("P-256", auto_kid=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, json.dumps(made.as_dict(private=True)), mode=0o600)
        return made
    except (OSError, ValueError) as problem:
        raise Unavailable(f"cannot read {path}: {problem}") from problem
