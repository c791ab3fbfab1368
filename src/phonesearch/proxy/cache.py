"""Trainings kept by what decides their loss, so that none is made twice on a machine.

A run for another phone, a resumed run and a longer study of the same proxies look their losses up
here. The name of a file is the hash of everything that decides the loss and of nothing else: not
the device profile, the run, the candidate (only its proxy) or the path of the text.

Beside the results lie the states of trainings under way, so that one that was killed is gone on
with by whoever asks for it next, and the trunks of those that did not pass the guard.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import filelock
import torch

from phonesearch.candidate.config import Candidate
from phonesearch.errors import ProxyError
from phonesearch.files import structure, write_json
from phonesearch.proxy.checkpoint import forget_snapshot
from phonesearch.proxy.corpus import Corpus
from phonesearch.proxy.loop import CHECKPOINT_INTERVAL_S, Watch
from phonesearch.proxy.recipe import content_key, decides_loss, training_device, trunk_identity
from phonesearch.proxy.result import TrainedProxy
from phonesearch.proxy.settings import ProxySettings
from phonesearch.proxy.train import Outcome, outcome_as_proxy, train_shrunk, trunk_path

_FORMAT: Final = 1
_FOLDER: Final = "proxies"
_LOCK_POLL_S: Final = 1.0
_LOGGER = logging.getLogger(__name__)


def cached_training(
    cache_dir: Path,
    proxy: Candidate,
    corpus: Corpus,
    settings: ProxySettings,
    *,
    watch: Watch | None = None,
    keep_trunk: bool = False,
    checkpoint_interval_s: float = CHECKPOINT_INTERVAL_S,
) -> TrainedProxy:
    """The result of a training, looked up where it was made before, else made and kept.

    Several processes may ask for the same one: the first trains, the others wait for it. Of a
    proxy short of the guard the trunk is kept as well, so that one of more tokens is a
    continuation. A cache that cannot be written costs the keeping and
    not the result: there is a warning.

    Args:
        cache_dir: Folder that all runs of a user share.
        proxy: Architecture to train, as `shrink` gives it.
        corpus: Text as tokens.
        settings: The recipe.
        watch: Told of every step, and asked whether to stop, while waiting too.
        keep_trunk: Keep the trunk whether or not the proxy passes the guard.
        checkpoint_interval_s: As in `train_shrunk`.

    Raises:
        ProxyError: As `train_shrunk`. What failed is not kept, and is tried again when asked for.
    """
    watch = watch or Watch()
    device = training_device(settings)
    decides = decides_loss(proxy, corpus, settings, device=device)
    key = content_key(decides)
    trunk = trunk_identity(proxy, corpus, settings, device=device)
    folder = cache_dir / _FOLDER
    path = folder / f"{key}.json"
    kept = _read(path, key, proxy, corpus, settings, device)
    if kept is not None:
        return kept
    with _locked(folder / f"{trunk}.lock", watch):
        kept = _read(path, key, proxy, corpus, settings, device)
        if kept is not None:
            return kept
        if path.exists():
            _LOGGER.warning("%s is damaged; its proxy is trained again.", path)
        checkpoint = folder / f"{trunk}.state"
        trained = train_shrunk(
            proxy,
            corpus,
            settings,
            watch=watch,
            checkpoint=checkpoint,
            checkpoint_interval_s=checkpoint_interval_s,
            keep_trunk=True,
        )
        _write(path, key, decides, trained)
        if trained.loss.passed_transition and not keep_trunk:
            forget_snapshot(trunk_path(checkpoint))
    return trained


def is_cached(cache_dir: Path, proxy: Candidate, corpus: Corpus, settings: ProxySettings) -> bool:
    """Whether `cached_training` would train nothing.

    Args:
        cache_dir: Folder that all runs of a user share.
        proxy: Architecture to train, as `shrink` gives it.
        corpus: Text as tokens.
        settings: The recipe.
    """
    device = training_device(settings)
    key = content_key(decides_loss(proxy, corpus, settings, device=device))
    path = cache_dir / _FOLDER / f"{key}.json"
    return _read(path, key, proxy, corpus, settings, device) is not None


def forget_trunk(
    cache_dir: Path, proxy: Candidate, corpus: Corpus, settings: ProxySettings
) -> None:
    """Remove what a longer training of a proxy would go on from, if it is there.

    Args:
        cache_dir: Folder that all runs of a user share.
        proxy: Architecture, as `shrink` gives it.
        corpus: Text as tokens.
        settings: The recipe, of whatever length.
    """
    device = training_device(settings)
    trunk = trunk_identity(proxy, corpus, settings, device=device)
    forget_snapshot(trunk_path(cache_dir / _FOLDER / f"{trunk}.state"))


@contextmanager
def _locked(path: Path, watch: Watch) -> Iterator[None]:
    """Hold the lock while the block runs; give up waiting for it when told to stop."""
    lock = filelock.FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                lock.acquire(timeout=_LOCK_POLL_S)
                break
            except filelock.Timeout:
                if watch.should_stop is not None and watch.should_stop():
                    raise ProxyError(
                        "The proxy's training was told to stop while another process trained it."
                    ) from None
    except OSError as error:
        _LOGGER.warning("Trainings cannot be kept in %s: %s.", path.parent, error)
    try:
        yield
    finally:
        lock.release()


def _write(path: Path, key: str, decides: dict[str, Any], trained: TrainedProxy) -> None:
    content = {
        "outcome": {
            "windows": asdict(trained.windows),
            "copy_gap_nats": trained.loss.copy_gap_nats,
            "seconds": trained.loss.seconds,
            "curve": trained.loss.curve,
        },
        "decided_by": decides,
    }
    plain = json.loads(json.dumps(content))
    try:
        write_json(
            path, {"format": _FORMAT, "key": key, "sha256": content_key(plain), "content": plain}
        )
    except OSError as error:
        _LOGGER.warning("The result of a training cannot be kept in %s: %s.", path, error)


def _read(
    path: Path,
    key: str,
    proxy: Candidate,
    corpus: Corpus,
    settings: ProxySettings,
    device: torch.device,
) -> TrainedProxy | None:
    """The result kept at `path`, or None where there is none, or none that is whole."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        text = ""
    try:
        file = json.loads(text)
        content = file["content"]
        if (file["format"], file["key"], file["sha256"]) != (_FORMAT, key, content_key(content)):
            raise ValueError
        outcome = structure(content["outcome"], Outcome, path=path)
    except (ValueError, KeyError, TypeError):
        return None
    return outcome_as_proxy(outcome, proxy, corpus, settings, device=device, from_cache=True)
