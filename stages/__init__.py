"""The stages of the pipeline: one script each, run by DVC as `python -m stages.NAME`."""

import pawprint  # noqa: F401  before a stage imports torch: it sets how torch's threads wait
