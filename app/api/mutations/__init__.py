"""What can be changed: each mutation is a call of one flow, in one transaction."""

from app.api.described import object_type
from app.api.mutations.administration import AdministrationMutations
from app.api.mutations.delegations import DelegationMutations
from app.api.mutations.webhooks import WebhookMutations
from app.api.mutations.work import WorkMutations


@object_type
class Mutation(DelegationMutations, WorkMutations, AdministrationMutations, WebhookMutations):
    """What can be changed. Expected refusals are `userErrors`; everything else is `errors`."""
