"""Who answers: tokenizers, backbones, heads, checkpoints and the classifier that unites them."""
