"""Draws docs/demo.svg: what `make demo` prints today, from a run of its own in a folder that is removed afterwards."""

import os
import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from prm_es.local import run
from prm_es.local.connect import settings_for
from prm_es.local.demo import QUIET_S, settle
from prm_es.local.summary import WIDTH, print_summary
from prm_es.settings import Settings
from prm_es.upstream.demo import scenario
from prm_es.upstream.sending import send


def main() -> None:
    """Run the scenario and write the picture."""
    with tempfile.TemporaryDirectory(prefix="prm-es-picture-") as scratch:
        base = Settings(data=Path(scratch) / "data", import_quiet=QUIET_S)
        run.run_detached(base)
        try:
            settings = settings_for(base.data, base)
            send(settings, scenario(1, datetime.now(UTC).date()), wait=True)
            with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
                settle(settings, Console(file=nowhere))
                console = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True, highlight=False)
                print_summary(settings, console)
        finally:
            run.stop(base.data)
    picture = console.export_svg(title="make demo", unique_id="demo")
    own = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)  # no fonts from elsewhere
    Path(__file__).with_name("demo.svg").write_text(own, encoding="utf-8")


if __name__ == "__main__":
    main()
