"""Labelled examples: tables, splits and dataset folders. No torch here."""
