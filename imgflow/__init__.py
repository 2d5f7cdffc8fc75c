"""imgflow: a rescue line for catalog photos on Dagster."""

import os

__version__ = "0.1.0"

# PyTorch's large arrays on huge pages, as NumPy's are: networks here lose a tenth of their time to
# page faults otherwise. PyTorch asks once, when it is loaded.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
