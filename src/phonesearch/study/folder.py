"""The folder of one run: what was asked, what it ran on, and every trial.

```text
settings.yaml      what was asked (`RunSettings`)
space.yaml         copy of the search space; the run goes by this one
device.yaml        copy of the device profile; the run goes by this one
environment.json   versions, machine, and the sha256 of the two copies
tokenizer/         copy of the tokenizer, where one was given; exports take it along
study.db           Optuna's storage: the trials
run.lock           held by the process that is running
```

The results (`trials.csv`, `front.json`, `report.html`, ...) are written beside these by
`phonesearch.report.build`, and can be made again from them at any time.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from phonesearch import files, locks
from phonesearch.device.profile import DeviceProfile, read_profile
from phonesearch.errors import InvalidFileError, RunFolderError
from phonesearch.space.schema import SearchSpace
from phonesearch.study.environment import environment
from phonesearch.study.settings import RunSettings

TOKENIZER_FOLDER = "tokenizer"
_OWN_VOCABULARY = "A copy, with the vocabulary of the run's tokenizer."
_COPIES = ("space.yaml", "device.yaml")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """An existing run, read back."""

    path: Path
    settings: RunSettings
    space: SearchSpace
    profile: DeviceProfile
    environment: dict[str, str]

    @property
    def storage_url(self) -> str:
        """Where Optuna keeps the trials."""
        return f"sqlite:///{self.path / 'study.db'}"


def check_new(path: Path) -> None:
    """Make sure that `path` is free for a new run.

    Raises:
        RunFolderError: If it is a file, or a folder that holds anything.
    """
    if path.exists() and not path.is_dir():
        raise RunFolderError(f"{path} is a file, not a folder. Choose another --out.")
    if path.is_dir() and any(path.iterdir()):
        what = "holds another run" if (path / "settings.yaml").is_file() else "is not empty"
        raise RunFolderError(
            f"The folder {path} {what}; nothing in it was changed. Choose another --out, or go "
            f"on with that run: phonesearch run --resume {path}"
        )


def create(
    path: Path,
    settings: RunSettings,
    *,
    space_file: Path,
    device_file: Path,
    vocab_size: int | None = None,
    tokenizer_files: Sequence[Path] = (),
) -> RunFolder:
    """Start the folder of a new run.

    Args:
        path: New or empty folder.
        settings: What is asked.
        space_file: YAML of the search space, copied in.
        device_file: YAML of the device profile, copied in.
        vocab_size: The only one of the run; None leaves those of the space.
        tokenizer_files: Copied in.

    Raises:
        RunFolderError: If the folder holds anything, or cannot be written.
    """
    check_new(path)
    try:
        for name, source in zip(_COPIES, (space_file, device_file), strict=True):
            files.write_text(path / name, files.read_text(source))
        if vocab_size is not None:
            space = files.read_mapping(space_file) | {"vocab_size": {"choices": [vocab_size]}}
            files.write_yaml(path / "space.yaml", space, header=_OWN_VOCABULARY)
        for source in tokenizer_files:
            (path / TOKENIZER_FOLDER).mkdir(exist_ok=True)
            shutil.copyfile(source, path / TOKENIZER_FOLDER / source.name)
        facts = environment() | {f"{name} sha256": _sha256(path / name) for name in _COPIES}
        files.write_json(path / "environment.json", facts)
        _write_settings(path, settings)  # last, as it is what makes the folder a run
    except OSError as error:
        raise RunFolderError(f"The folder {path} cannot be written: {error.strerror}.") from error
    return open_folder(path)


def open_folder(path: Path) -> RunFolder:
    """Read the folder of a run.

    Raises:
        RunFolderError: If it is not one, or its copies were changed since it started.
        InvalidFileError: If one of its files does not fit its schema.
    """
    if not (path / "settings.yaml").is_file():
        raise RunFolderError(
            f"{path} is not the folder of a run: it has no settings.yaml. Pass the folder that "
            "`phonesearch run` printed at its start."
        )
    facts = files.read_mapping(path / "environment.json")
    for name in _COPIES:
        if facts.get(f"{name} sha256") != _sha256(path / name):
            raise RunFolderError(
                f"{path / name} was changed since this run started, so old and new trials would "
                "not be comparable. Restore it, or start a new run with --out."
            )
    return RunFolder(
        path=path,
        settings=files.read(path / "settings.yaml", RunSettings),
        space=files.read(path / "space.yaml", SearchSpace),
        profile=read_profile(str(path / "device.yaml")),
        environment={name: str(value) for name, value in facts.items()},
    )


def raise_trials(folder: RunFolder, trials: int) -> RunFolder:
    """The same run, asked for more trials. What a trial is does not depend on their number.

    Raises:
        RunFolderError: If the settings cannot be written.
    """
    settings = replace(folder.settings, trials=trials)
    try:
        _write_settings(folder.path, settings)
    except OSError as error:
        raise RunFolderError(
            f"{folder.path / 'settings.yaml'} cannot be written: {error.strerror}. Nothing was "
            "changed; free some disk space and try again."
        ) from error
    return replace(folder, settings=settings)


def _write_settings(path: Path, settings: RunSettings) -> None:
    files.write_yaml(
        path / "settings.yaml",
        asdict(settings),
        header="What this run was asked to do; `phonesearch run --resume` goes by it.",
    )


@contextmanager
def locked(folder: RunFolder) -> Iterator[None]:
    """Hold the run for this process. The lock goes with the process, however it ends.

    Raises:
        RunFolderError: If another process holds it.
    """
    taken = RunFolderError(
        f"Another process is working on {folder.path}. Wait for it, or stop it, then try again."
    )
    with locks.exclusive(folder.path / "run.lock", taken=taken):
        yield


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InvalidFileError(path, [f"cannot be read: {error.strerror}"]) from error
