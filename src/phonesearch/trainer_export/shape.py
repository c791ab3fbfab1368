"""A candidate in words, as every README of this room has it."""

from __future__ import annotations

from phonesearch import __version__
from phonesearch.candidate.config import Candidate, candidate_id
from phonesearch.candidate.count import non_embedding_parameters, total_parameters


def heading(candidate: Candidate, *, trainer: str) -> str:
    """Title, shape, counts and versions: the first lines of a README.

    Args:
        candidate: Architecture of the folder.
        trainer: Name and version of who reads the folder.
    """
    return (
        f"# Candidate {candidate_id(candidate)}, for {trainer}\n\n"
        f"{describe(candidate)}: {total_parameters(candidate):,} parameters, "
        f"{non_embedding_parameters(candidate):,} without embeddings.\n"
        f"Written by phonesearch {__version__} for {trainer}.\n"
    )


def describe(candidate: Candidate) -> str:
    """Layers, widths, heads, feed-forward network and vocabulary in one line."""
    tied = "tied" if candidate.tie_word_embeddings else "untied"
    return (
        f"{candidate.num_hidden_layers} layers of width {candidate.hidden_size}, "
        f"{candidate.num_attention_heads} query and {candidate.num_key_value_heads} key/value "
        f"heads of {candidate.head_dim}, {candidate.ffn_type} {candidate.hidden_act} "
        f"feed-forward network of {candidate.intermediate_size}, vocabulary of "
        f"{candidate.vocab_size}, {tied}"
    )
