"""`phonesearch report`: make the pages of a run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run, also of one that is not finished.")],
) -> None:
    """Write trials.csv, the front and the report again from the trials of a run."""
    from phonesearch.cli.results import print_results
    from phonesearch.report.build import build
    from phonesearch.study.folder import open_folder

    print_results(build(open_folder(run)))
