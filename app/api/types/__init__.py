"""What clients see. Each type wraps a row, or the few rows that it is made of."""
