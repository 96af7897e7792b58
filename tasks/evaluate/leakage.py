"""A test on samples that training has seen proves nothing: they are told by the hash of their content."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tasks.data.raw import examples


def refuse_seen(what: str, tested: Mapping[str, object], seen: Mapping[str, Iterable[str]]) -> None:
    """Raise where a tested sample's content is among what training saw.

    tested: hash -> what to call the sample; seen: hashes by part of the split.

    Raises:
        ValueError: there are such samples; the first are named.
    """
    for part, hashes in seen.items():
        known = set(hashes)
        shared = [name for content, name in tested.items() if content in known]
        if shared:
            raise ValueError(
                f"evaluate: {len(shared):,} of {len(tested):,} {what} have the same content as samples of {part}, e.g. "
                f"{examples(shared)}; a test on samples that training saw proves nothing: leave them out, or run split "
                "again, which keeps equal samples on one side"
            )
