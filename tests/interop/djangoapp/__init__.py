"""The Django app as far as the gateway meets it: its settings, its tables, what its views put into the cache."""
