"""What the DNA is: sequences, intervals, annotation and tracks. No torch here."""
