"""How often somebody may ask: so many requests of one person, so many failed ones from one address."""

from http import HTTPStatus
from time import time
from typing import Final

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from prm_es.api.problems import Problem

_ASKED: Final = "asked"
_FAILED: Final = "failed"


class Limiter:
    """Counts in this process's memory; each of several API processes counts for itself.

    In the event loop: the same in threads starts one for each request.
    """

    def __init__(self, rate: str, failures: str) -> None:
        """Take rates as `limits` writes them, `1200/minute`; raises ValueError."""
        self._strategy = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._rate, self._failures = parse(rate), parse(failures)

    async def asked(self, who: str) -> None:
        """Count a request of somebody known; raises Problem 429 if there were too many."""
        if not await self._strategy.hit(self._rate, _ASKED, who):
            raise await self._too_many(self._rate, _ASKED, who)

    async def failed(self, client: str) -> None:
        """Count a request of nobody known from an address; raises Problem 429 if there were too many."""
        if not await self._strategy.hit(self._failures, _FAILED, client):
            raise await self._too_many(self._failures, _FAILED, client)

    async def _too_many(self, rate: RateLimitItem, *key: str) -> Problem:
        reset = (await self._strategy.get_window_stats(rate, *key)).reset_time
        wait = max(1, int(reset - time()) + 1)
        headers = {"Retry-After": str(wait)}
        return Problem(HTTPStatus.TOO_MANY_REQUESTS, "request.too_many", "too many requests: wait", headers=headers)
