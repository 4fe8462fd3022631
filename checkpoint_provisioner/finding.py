"""What one rule of the judge says: a cause, the evidence for it, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Confidence = Literal["proof", "likely", "unknown"]


@dataclass(frozen=True)
class Finding:
    """The cause of a death."""

    cause: str
    because: str  # one sentence: the deciding evidence
    confidence: Confidence = "proof"
