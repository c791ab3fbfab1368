from __future__ import annotations

from dataclasses import replace

import numpy as np

from phonesearch.proxy.batches import order_fingerprint, training_batches, validation_windows
from phonesearch.proxy.corpus import Corpus
from phonesearch.proxy.settings import ProxySettings


def test_the_batches_depend_on_the_seed_and_on_no_candidate(
    corpus: Corpus, settings: ProxySettings
) -> None:
    other = replace(settings, seed=1)
    assert order_fingerprint(corpus, settings) == order_fingerprint(corpus, settings)
    assert order_fingerprint(corpus, settings) != order_fingerprint(corpus, other)


def test_a_training_sees_every_window_before_it_sees_one_again(
    corpus: Corpus, settings: ProxySettings
) -> None:
    windows = (corpus.num_train_tokens - 1) // settings.context_length
    one_by_one = replace(settings, batch_size=1, tokens=windows * settings.context_length)
    batches = list(training_batches(corpus, one_by_one))
    assert all(batch.shape == (1, settings.context_length + 1) for batch in batches)
    distinct = {batch.tobytes() for batch in batches}
    assert len(distinct) >= windows - 1  # an offset may leave room for one window fewer


def test_a_second_pass_is_cut_and_ordered_anew(corpus: Corpus, settings: ProxySettings) -> None:
    windows = corpus.num_train_tokens // settings.context_length
    twice = replace(settings, batch_size=1, tokens=2 * windows * settings.context_length)
    rows = [batch[0] for batch in training_batches(corpus, twice)]
    first, second = rows[: windows // 2], rows[-windows // 2 :]
    assert not np.array_equal(first[:5], second[:5])


def test_windows_hold_consecutive_tokens(corpus: Corpus, settings: ProxySettings) -> None:
    text = corpus.train_tokens().tobytes()
    batch = next(training_batches(corpus, settings))
    assert all(row.astype(np.uint16).tobytes() in text for row in batch)


def test_scored_windows_are_fixed_and_do_not_overlap(
    corpus: Corpus, settings: ProxySettings
) -> None:
    held_out = corpus.validation_tokens()
    windows = validation_windows(corpus, settings)
    assert windows.shape == (settings.validation_windows, settings.context_length + 1)
    assert np.array_equal(windows, validation_windows(corpus, replace(settings, seed=9)))
    length = settings.context_length + 1
    starts = np.linspace(0, len(held_out) - length, len(windows)).round().astype(int)
    assert (np.diff(starts) >= length).all()
    assert np.array_equal(windows[-1], held_out[-length:])


def test_short_held_out_text_gives_fewer_windows(corpus: Corpus, settings: ProxySettings) -> None:
    many = replace(settings, validation_windows=10**6)
    length = settings.context_length + 1
    assert len(validation_windows(corpus, many)) == corpus.num_validation_tokens // length


def test_a_longer_training_begins_with_the_batches_of_a_shorter_one(
    corpus: Corpus, settings: ProxySettings
) -> None:
    longer = replace(settings, tokens=settings.tokens * 3)
    short, long = list(training_batches(corpus, settings)), training_batches(corpus, longer)
    for batch in short:
        assert np.array_equal(batch, next(long))


def test_batches_can_be_taken_from_any_step_on(corpus: Corpus, settings: ProxySettings) -> None:
    """Into the second pass over the text, and beyond the last step."""
    whole = replace(settings, batch_size=3, tokens=corpus.num_train_tokens * 2)
    batches = list(training_batches(corpus, whole))
    for first in (0, 1, len(batches) // 2 + 1, len(batches) - 1, len(batches)):
        rest = list(training_batches(corpus, whole, first_step=first))
        assert len(rest) == len(batches) - first
        assert all(np.array_equal(a, b) for a, b in zip(rest, batches[first:], strict=True))
