"""What a tenant has that can be lent: agents, the services they act in, and the actions of those services."""
