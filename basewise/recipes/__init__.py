"""What a run is: the recipe schema and the shipped TOML files."""
