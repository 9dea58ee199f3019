"""Measurements of the figures to reach, always as a ratio of two sides measured in one run: ``make bench``."""
