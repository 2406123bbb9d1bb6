"""Webhooks: a tenant's ledger, sent to its endpoints.

endpoints   made, changed, deleted; their secrets
again       what is sent because somebody asks: a test, a redelivery, a recovery
turn        one transaction: what became of attempts, new deliveries from the cursors, what is attempted next
unread      what endpoints have not had of a ledger yet, read once for those that stand at the same position
sending     one attempt, with no transaction open
courier     the loop that does both, on every node
read        what is shown of it
upkeep      what is dropped, long after its end
"""
