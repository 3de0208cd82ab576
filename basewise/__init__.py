"""basewise: genome language models, from a genome and a question to base-resolution answers."""
