"""Embedded models: one folder a model, trained by the recipe stored beside the weights."""
