"""Records turned into estimates with errors."""
