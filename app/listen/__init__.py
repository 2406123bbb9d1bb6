"""A developer's own machine: a client of a running gateway, with an address and an API key and no store.

asking      what it asks the gateway, and what the gateway's answers mean
sse         server-sent events, out of bytes as they come
entries     the entry of an event, byte by byte as its ledger has it
following   a tenant's events, over cuts
forwarding  one event to the local receiver, as a webhook
command     what `crossgrant listen` does
trigger     what `crossgrant trigger` does
"""
