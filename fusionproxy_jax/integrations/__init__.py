"""Adapters to other people's frameworks: optional, imported by nothing in here."""
