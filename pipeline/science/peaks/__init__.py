"""Peaks A and B of the difference."""
