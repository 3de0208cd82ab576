"""Why a model says so: attributions, k-mers, perturbations, attention. Loads a classifier and never imports training."""
