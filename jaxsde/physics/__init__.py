"""Numbers of the laboratory, turned into matrices and closed forms."""
