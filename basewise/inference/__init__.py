"""Asking a trained classifier: prediction, genome scans, calls, overlaps, embeddings."""
