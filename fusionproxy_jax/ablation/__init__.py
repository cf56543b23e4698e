"""Ablations of the paper: its rows as configurations, trained and set beside it."""
