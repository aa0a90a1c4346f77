"""Judging: errors and intervals, baselines, label errors, near duplicates, grids, the report."""
