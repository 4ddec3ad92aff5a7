"""The servers under the tests: those that tests/interop uses."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3] / "tests" / "interop"))

from gateway import GUARD, Gateway, Stack  # noqa: E402 (its folder must be known first)

__all__ = ["GUARD", "Gateway", "Stack"]
