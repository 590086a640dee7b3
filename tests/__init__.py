"""Tests: one folder per package, and what holds for the whole repository."""
