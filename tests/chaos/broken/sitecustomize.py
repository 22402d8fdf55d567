"""Breaks a worker on purpose: Python imports this module at its start when the chaos has put its folder on the path.

The mutant is named by CHAOS_MUTANT. Whenever its broken part is used it leaves a mark in the folder CHAOS_MARKS; a
patch whose target is gone leaves the mark `gone` and ends the process, so that it cannot pass for caught.
"""

import os
import sys
import traceback
from pathlib import Path

_VERBS = {
    "ack-early": "handle",
    "no-dedup": "handle",
    "decide-before-lock": "handle",
    "blind-publisher": "publish",
    "no-checkpoint-lock": "project",
}


def _break() -> None:
    mutant = os.environ.get("CHAOS_MUTANT", "")
    if _VERBS.get(mutant) not in sys.orig_argv or "prm_es" not in sys.orig_argv:
        return
    marks = Path(os.environ["CHAOS_MARKS"])
    try:
        from tests.chaos.mutants import MUTANTS  # noqa: PLC0415 - only in the workers that it breaks

        MUTANTS[mutant]((marks / mutant).touch)
    except BaseException:  # noqa: BLE001
        (marks / "gone").write_text(traceback.format_exc())
        os._exit(70)


_break()
