"""Tests of the package; `pipeline/` has those that run stages through DVC."""

import os

# One thread for everything that computes, here and in processes that tests start: two that compute at once with two
# threads each slow each other ten times on two cores. Read when numpy and torch are first imported, hence here.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
