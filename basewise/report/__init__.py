"""Telling: figures and the self-contained page."""
