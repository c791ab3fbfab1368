"""Rows of a dataset of the Hugging Face hub, as they come: all that knows the library `datasets`.

Nothing of the dataset's files is kept by the library (`streaming=True`), only its description.
Exact: states of iterators of `datasets` 5.2 count the rows that were handed out of each file, so
that going on hands out the next one (`ArrowExamplesIterable` and `ExamplesIterable` in its
`iterable_dataset.py`). Files that were finished are not asked for again; of the one that was being
read, the part before is fetched a second time.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Final

from phonesearch.errors import CorpusError

_BATCH_ROWS: Final = 1000
"""What arrow hands over at once; more only takes memory."""


class HubRows:
    """The text of one column, row after row, and where in it we are."""

    def __init__(self, rows: Any, *, name: str, field: str, commit: str, config: str) -> None:
        self._rows = rows
        self._name = name
        self._field = field
        self.commit = commit
        """Of the dataset's repository, in full."""
        self.config = config

    @property
    def library(self) -> str:
        """Version of `datasets`, as a state is for the version that made it."""
        import datasets

        return str(datasets.__version__)

    def state(self) -> dict[str, Any]:
        """What `go_on` needs to hand out the row after the last one; plain values."""
        state: dict[str, Any] = self._rows.state_dict()
        return state

    def go_on(self, state: dict[str, Any]) -> None:
        """Begin after the row at which `state` was taken."""
        self._rows.load_state_dict(state)

    def __iter__(self) -> Iterator[str]:
        """The text of every row, empty where it has none.

        Raises:
            CorpusError: If the hub does not give the rest, or there is no such field.
        """
        # Closed by hand: what is left to the interpreter's end fails there, noisily.
        with closing(iter(self._rows)) as rows:
            while True:
                try:
                    row = next(rows, None)
                except Exception as error:
                    raise _explained(error, self._name) from error
                if row is None:
                    return
                if self._field not in row:
                    raise _no_field(self._name, self._field, row)
                text = row[self._field]
                if text is not None and not isinstance(text, str):
                    raise _no_text(self._name, self._field, type(text).__name__)
                yield text or ""


@contextmanager
def open_rows(
    name: str,
    *,
    revision: str | None,
    config: str | None,
    split: str,
    field: str,
    say: Callable[[str], None],
) -> Iterator[HubRows]:
    """Rows of a dataset from the first one, while the block lasts.

    Args:
        name: OWNER/NAME.
        revision: Branch, tag or commit; None is `main`.
        config: None is the dataset's default one.
        split: One split.
        field: Column that holds the text.
        say: Told when a connection is lost and tried again.

    Raises:
        CorpusError: If there is no such dataset, part or field, it may not be read, the hub cannot
            be reached, or the library is not installed.
    """
    try:
        import datasets
        import huggingface_hub
    except ImportError as error:
        raise CorpusError(
            f"hf:{name} is read with the library `datasets`, which is not installed ({error}): "
            'pip install "phonesearch[data]"'
        ) from error
    # A folder of its own: should the hub fail, the library would take any revision that it has.
    with _told(name, say), tempfile.TemporaryDirectory() as scratch:
        try:
            commit = _commit_of(huggingface_hub.HfApi(), name, revision)
            builder = _builder(datasets, name, config, commit, scratch)
            splits = builder.as_streaming_dataset()
            if split not in splits:
                raise CorpusError(
                    f"hf:{name} has no split {split!r} in configuration {builder.config.name}; it "
                    f"has {', '.join(splits)}. Name one with hf:{name}:CONFIG:SPLIT."
                )
            rows = splits[split]
            if rows.features is not None:  # not known of JSON arrays before they are read
                _check_field(datasets, rows.features, name, field)
                if builder.name == "parquet":
                    # The other columns need not be fetched; and left to itself, version 5.2 fails
                    # on a file without rows, as it takes their number as the size of its batches.
                    options = {"columns": [field], "batch_size": _BATCH_ROWS}
                    builder = _builder(datasets, name, config, commit, scratch, **options)
                    rows = builder.as_streaming_dataset(split=split)
                else:
                    rows = rows.select_columns([field])
        except CorpusError:
            raise
        except Exception as error:
            raise _explained(error, name) from error
        yield HubRows(rows, name=name, field=field, commit=commit, config=builder.config.name)


def _commit_of(hub: Any, name: str, revision: str | None) -> str:
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        found = hub.dataset_info(name, revision=revision, expand=["sha", "gated"])
        if found.gated:  # its description can be read by all, its files cannot
            hub.auth_check(name, repo_type="dataset")
    except GatedRepoError as error:
        raise CorpusError(
            f"hf:{name} is gated: its owner gives it to those who ask. Ask on "
            f"https://huggingface.co/datasets/{name}, then set HF_TOKEN to an access token of your "
            "account, or log in with `hf auth login`."
        ) from error
    except RepositoryNotFoundError as error:
        raise CorpusError(
            f"The Hugging Face hub has no dataset {name!r}, or it is private. Check the name; for "
            "a private one set HF_TOKEN to an access token that may read it."
        ) from error
    except RevisionNotFoundError as error:
        raise CorpusError(
            f"hf:{name} has no revision {revision!r}. Name a branch, a tag or a commit of it as "
            f"hf:{name}@REVISION, or none for the newest."
        ) from error
    return str(found.sha)


def _builder(
    datasets: Any, name: str, config: str | None, commit: str, scratch: str, **options: Any
) -> Any:
    path = f"hf://datasets/{name}"  # and not a folder of that name that lies here
    try:
        return datasets.load_dataset_builder(
            path, config, revision=commit, cache_dir=scratch, **options
        )
    except ValueError as error:  # what it raises if a configuration is missing, or needed
        known = datasets.get_dataset_config_names(path, revision=commit, cache_dir=scratch)
        if config in known:
            raise
        lacking = f"no configuration {config!r}" if config else "no default configuration"
        raise CorpusError(
            f"hf:{name} has {lacking}; it has {_some(known)}. Name one with hf:{name}:CONFIG."
        ) from error


def _check_field(datasets: Any, features: Any, name: str, field: str) -> None:
    if field not in features:
        raise _no_field(name, field, features)
    kind = features[field]
    if not (isinstance(kind, datasets.Value) and kind.dtype in ("string", "large_string")):
        raise _no_text(name, field, getattr(kind, "dtype", None) or type(kind).__name__)


def _no_field(name: str, field: str, fields: Any) -> CorpusError:
    return CorpusError(
        f"hf:{name} has no field {field!r}; it has {_some(fields)}. Name the one that holds the "
        "text with --data-field."
    )


def _no_text(name: str, field: str, kind: str) -> CorpusError:
    return CorpusError(
        f"Field {field!r} of hf:{name} holds {kind}, not text. Name another with --data-field."
    )


def _some(names: Any, most: int = 20) -> str:
    listed = [str(name) for name in names]
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def _explained(error: Exception, name: str) -> CorpusError:
    """One message for whatever the libraries raise, of which their documentation lists little."""
    from datasets.data_files import EmptyDatasetError
    from datasets.exceptions import DataFilesNotFoundError
    from huggingface_hub.errors import HfHubHTTPError

    said = str(error).strip().splitlines() or [""]
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        status = error.response.status_code
        return CorpusError(
            f"The Hugging Face hub answered {status} for hf:{name}. Try again later; what was "
            "streamed is kept, and the same command goes on with it."
        )
    if isinstance(error, DataFilesNotFoundError | EmptyDatasetError):
        return CorpusError(
            f"hf:{name} holds no files of a kind that the library `datasets` reads ({said[0]}). "
            "Name another dataset, or download its files and give those with --data."
        )
    if _is_of_network(error):
        return CorpusError(
            f"The Hugging Face hub cannot be reached for hf:{name} ({type(error).__name__}: "
            f"{said[0]}). Check the connection; what was streamed is kept, and the same command "
            "goes on with it. Without a connection, give files with --data."
        )
    return CorpusError(f"hf:{name} cannot be read ({type(error).__name__}): {said[0]}")


def _is_of_network(error: BaseException | None) -> bool:
    while error is not None:
        # By name: which HTTP client the hub's library has changes with its version.
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if kinds & {"ConnectionError", "TimeoutError", "TransportError"}:
            return True
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False


class _Telling(logging.Handler):
    def __init__(self, name: str, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._name = name
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.WARNING:  # what it logs as an error, it raises too
            self._say(f"hf:{self._name}: {record.getMessage()}")


@contextmanager
def _told(name: str, say: Callable[[str], None]) -> Iterator[None]:
    """Warnings of `datasets`, as of a lost connection, become lines of ours; no bars of its own.

    The hub's client below it logs every one of its own attempts, five for one of these.
    """
    import datasets

    handlers: dict[str, logging.Handler] = {
        "datasets": _Telling(name, say),
        "huggingface_hub": logging.NullHandler(),
    }
    before = {}
    for library, handler in handlers.items():
        logger = logging.getLogger(library)
        before[library] = (logger.handlers, logger.propagate)
        logger.handlers, logger.propagate = [handler], False
    had_bars = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        for library, (former, propagate) in before.items():
            logger = logging.getLogger(library)
            logger.handlers, logger.propagate = former, propagate
        if had_bars:
            datasets.enable_progress_bars()
