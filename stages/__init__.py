"""The stages of the pipeline: one script each, run by DVC as `python -m stages.NAME`.

While a stage is imported, Python looks for garbage again and again, and finds none: a fifth of the
time that imports take. So that waits until the stage begins (`run_stage` in pawprint/params.py).
"""

import gc
import sys

import pawprint  # noqa: F401  before a stage imports torch: it sets how torch's threads wait

if sys.argv[0] == "-m":  # as long as Python looks for the module to run, and only then
    gc.disable()
