"""One person looking at one page: who, in which language, and how the page is made for them."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse

from prm_es.api.access import Asking
from prm_es.api.pages.doors import Doors
from prm_es.api.pages.frame import is_fragment, render
from prm_es.api.pages.language import Reader
from prm_es.api.principal import Principal


@dataclass(frozen=True, slots=True)
class Visit:
    """A request for a page."""

    request: Request
    principal: Principal
    reader: Reader
    doors: Doors

    @property
    def vendor(self) -> bool:
        """Tell whether it is one of the vendor's people."""
        return not self.principal.partner_side

    @property
    def fragment(self) -> bool:
        """Tell whether a part of a page is asked for, or a dialog."""
        return is_fragment(self.request)

    def text(self, text: str) -> str:
        """Translate."""
        return self.reader.text(text)

    def reading(self) -> AbstractContextManager[Any]:
        """Give a cursor on the views as this person may see them."""
        return self.doors.reading(self.principal)

    def page(self, template: str, **given: Any) -> HTMLResponse:  # noqa: ANN401
        """Make a page."""
        return render(self.request, template, principal=self.principal, reader=self.reader, **given)


def visit(request: Request, who: Asking) -> Visit:
    """Give who looks, in their language; raises Problem as every endpoint does."""
    doors: Doors = request.app.state.doors
    return Visit(request, who, Reader(who.locale, doors.zone), doors)


Seen = Annotated[Visit, Depends(visit)]
"""The parameter by which a page learns who looks at it."""
