"""Judging: errors and intervals, baselines, label errors, near duplicates, grids, the report."""

import warnings

# scikit-learn takes labels of many rare classes for numbers
warnings.filterwarnings("ignore", "The number of unique classes")
