"""Where rows live: the tables, the two stores that run transactions on them, and what is secret at rest."""
