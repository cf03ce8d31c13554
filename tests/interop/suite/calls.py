"""Empty for the moment."""
