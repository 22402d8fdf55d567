"""Draws docs/demo.svg: what `make demo` prints, from a run of its own in a folder that is removed afterwards."""

import os
import re
import tempfile
from datetime import date
from pathlib import Path

from rich.console import Console

from prm_es import status
from prm_es.local import run
from prm_es.local.connect import settings_for
from prm_es.local.demo import print_summary
from prm_es.settings import Settings
from prm_es.upstream.demo import scenario
from prm_es.upstream.sending import send


def main() -> None:
    """Run the scenario and write the picture."""
    with tempfile.TemporaryDirectory(prefix="prm-es-picture-") as scratch:
        base = Settings(data=Path(scratch) / "data")
        run.run_detached(base)
        try:
            settings = settings_for(base.data, base)
            send(settings, scenario(1, date(2026, 6, 30)), wait=True)
            status.wait(settings, 120)
            with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
                console = Console(record=True, width=84, file=nowhere, force_terminal=True, highlight=False)
                print_summary(settings, console)
        finally:
            run.stop(base.data)
    picture = console.export_svg(title="make demo", unique_id="demo")
    own = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)  # no fonts from elsewhere
    Path(__file__).with_name("demo.svg").write_text(own, encoding="utf-8")


if __name__ == "__main__":
    main()
