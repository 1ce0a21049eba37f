"""Settings of the whole test run: no windows, and reproducible property tests."""

import os

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests run side by side, a core each

from hypothesis import settings

# Shared machines are slow at times, which is no failure; CI draws the same cases every time.
settings.register_profile("sklme", deadline=None, max_examples=50, derandomize="CI" in os.environ)
settings.load_profile("sklme")
