"""Fusion metrics, controls, latency, reports."""
