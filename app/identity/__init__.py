"""Who is calling: tenants, their API keys, and what each role may do."""
