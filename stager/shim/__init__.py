"""What a job's scripts import that were written for a platform: a directory for their PYTHONPATH."""

from __future__ import annotations

import os
from typing import Final

__all__ = ["DIRECTORY"]

DIRECTORY: Final = os.path.dirname(os.path.abspath(__file__))
"""Holds modules under the names that such scripts import."""
