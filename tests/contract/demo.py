"""What the demo vendors are held against: every answer of every fault that is an API's answer at all."""

from __future__ import annotations

from worker.demo.answers import FAULTS

SPOKEN = tuple(fault for fault in FAULTS if fault not in ("maintenance", "garbage", "hanging"))
"""Without those that are meant to break every promise: a proxy's page, half a document, silence."""
