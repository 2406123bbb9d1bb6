"""What clients give, and how it becomes what a flow takes."""
