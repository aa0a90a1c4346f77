"""Judging: error rates and intervals, baselines, label errors, near duplicates, grids, the report."""
