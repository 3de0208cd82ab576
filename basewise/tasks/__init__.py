"""What is asked of a genome, one file a question. No torch here."""
