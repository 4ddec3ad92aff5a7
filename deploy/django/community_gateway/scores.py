"""The scores of automatic moderation in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .conf import config

MEANINGS = {
    "harassment": "insults or belittles somebody",
    "harassment/threatening": "insults somebody, with a threat",
    "hate": "hatred against a group of people",
    "hate/threatening": "hatred against a group of people, with a threat",
    "illicit": "how to do something illegal",
    "illicit/violent": "how to do something illegal, with violence or weapons",
    "self-harm": "speaks of hurting oneself",
    "self-harm/intent": "somebody says that they hurt themselves, or will",
    "self-harm/instructions": "how to hurt oneself",
    "sexual": "sexual content",
    "sexual/minors": "sexual content with somebody under 18",
    "violence": "death, violence or injury",
    "violence/graphic": "death, violence or injury in detail",
}
# Python's names for the same (`self_harm_intent`), as another part of a project may have stored them.
_SAME = {name.replace("/", "_").replace("-", "_"): name for name in MEANINGS}


class Score(NamedTuple):
    """One category."""

    category: str
    score: float
    meaning: str
    verdict: str


def explained(scores: Any) -> list[Score]:
    """The categories, the worst first. What is no number is left out."""
    if not isinstance(scores, Mapping):
        return []
    found = []
    for key, value in scores.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        category = _SAME.get(str(key), str(key))
        meaning = MEANINGS.get(category, "found by a rule")
        found.append(Score(category, float(value), meaning, _verdict(category, float(value))))
    return sorted(found, key=lambda one: (-one.score, one.category))


def summary(scores: Any) -> str:
    """The worst category in a few words; empty when there is none."""
    worst = next(iter(explained(scores)), None)
    return f"{worst.category} {worst.score:.2f}" if worst else ""


def _verdict(category: str, score: float) -> str:
    flag, block = config.CATEGORIES.get(category, (config.FLAG_FROM, config.BLOCK_FROM))
    if score >= block:
        return f"from {block:.2f} on: hidden until a human approves it"
    if score >= flag:
        return f"from {flag:.2f} on: shown, and waits for a human"
    return f"below {flag:.2f}: no concern"
