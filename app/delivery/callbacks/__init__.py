"""Callbacks: subscriptions that are POSTed to a router, which holds no connection for them.

asked       what a router asks for, and how much of it
rows        one transaction each: made, taken by a process, moved, ended
sending     what is said to a router, and what its answer means
keeper      what this process keeps: heartbeats, positions, endings
"""
