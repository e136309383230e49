"""Add the folders beside this file to the packages in which files are found by name.

Python imports it at the start of every process that has this folder on its path.
"""

from __future__ import annotations

import importlib
from pathlib import Path

for name in ("models", "learners", "tasks", "config"):
    importlib.import_module(f"stockpred.{name}").__path__.append(str(Path(__file__).parent / name))
