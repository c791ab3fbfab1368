"""Finds the YAML files that ship with phonesearch, in a wheel and in a checkout alike."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from typing import Literal

from phonesearch import files
from phonesearch.errors import NotInCatalogError

Kind = Literal["search_spaces", "device_profiles"]
_NOUN: dict[Kind, str] = {"search_spaces": "search space", "device_profiles": "device profile"}
_LIST_COMMAND: dict[Kind, str] = {
    "search_spaces": "phonesearch space list",
    "device_profiles": "phonesearch device list",
}


def catalog_dir(kind: Kind) -> Path:
    """Folder holding the shipped YAML files of one kind.

    In a wheel they lie inside the package; in a checkout (editable install) they lie at the
    repository root, next to `pyproject.toml`. Nothing else may build a path to these folders.

    Raises:
        NotInCatalogError: If neither folder exists, which means a broken installation.
    """
    package = Path(str(resources.files("phonesearch")))
    for folder in (package / "_catalog" / kind, package.parents[1] / kind):
        if folder.is_dir():
            return folder
    raise NotInCatalogError(f"No {kind}/ folder found for {package}; reinstall phonesearch.")


def names(kind: Kind) -> list[str]:
    """Names of the shipped files of one kind, sorted."""
    return sorted(path.stem for path in catalog_dir(kind).glob("*.yaml"))


def resolve(name: str, kind: Kind) -> Path:
    """Path of the shipped file called `name`, or of the user's own `something.yaml`.

    A device is found by its `aliases` too, spelt with or without hyphens, spaces and capitals:
    `Raspberry_Pi_5` is `bcm2712`.

    Raises:
        NotInCatalogError: If there is none; names the nearest one that exists.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise NotInCatalogError(f"There is no {_NOUN[kind]} file {name}.")
        return path
    path = catalog_dir(kind) / f"{name}.yaml"
    if path.is_file() and path.stem == name:
        return path
    known = names(kind)
    folded = {fold(entry): entry for entry in known}
    wanted = fold(name)
    if kind == "device_profiles":
        for other in known:
            path = catalog_dir(kind) / f"{other}.yaml"
            if wanted in (
                fold(str(alias)) for alias in files.read_mapping(path).get("aliases", ())
            ):
                return path
    close = difflib.get_close_matches(wanted, list(folded), n=1, cutoff=0.5)
    nearest = f"Did you mean {folded[close[0]]!r}? " if close else ""
    raise NotInCatalogError(
        f"There is no {_NOUN[kind]} called {name!r}. {nearest}"
        f"`{_LIST_COMMAND[kind]}` shows all {len(known)}; a path ending in .yaml is taken as "
        "your own file."
    )


def fold(name: str) -> str:
    """`name` without what people spell differently: hyphens, underscores, spaces, capitals."""
    return name.replace("_", "").replace("-", "").replace(" ", "").lower()
