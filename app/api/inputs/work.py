"""What clients give to act, to explain an action, and to say who may act."""

import strawberry

from app.api.described import given, input_type, optional
from app.api.inputs.once import ONCE_SECRET
from app.api.scalars import JSON, Scope
from app.rules.ids import Instant


@input_type
class CreateBindingInput:
    """Who is going to act."""

    delegation_id: strawberry.ID = given("The delegation, which must be ACTIVE.")
    agent_id: strawberry.ID = given("The agent of your tenant.")
    idempotency_key: str | None = optional(ONCE_SECRET)


@input_type
class RotateTokenInput:
    """Whose token is replaced."""

    binding_id: strawberry.ID = given("The binding.")
    overlap_seconds: int = given("How long the old token still works: 0 to 86400.", default=0)
    idempotency_key: str | None = optional(ONCE_SECRET)


@input_type
class RevokeBindingInput:
    """Which binding ends."""

    binding_id: strawberry.ID = given("The binding.")
    reason: str | None = optional("Why; both sides see it in their logs.")


@input_type
class DispatchActionInput:
    """What is to be done, under which binding."""

    binding_id: strawberry.ID = given("The binding of your tenant that asks.")
    scope: Scope = given("The scope of the action.")
    action_id: strawberry.ID | None = optional("The action, where the scope has several.")
    path_parameters: JSON | None = optional(
        "An object with a value for each parameter of the action's path: strings or numbers."
    )
    query: JSON | None = optional(
        "An object that becomes the query string: strings, numbers, booleans, or lists of them; null leaves out."
    )
    body: JSON | None = optional("What is sent as application/json; nothing where it is left out or null.")
    idempotency_key: str | None = optional(
        "Makes a repeat under this binding the same dispatch for 24 hours: 1 to 255 characters."
    )


@input_type
class ExplainDispatchInput:
    """What would be asked for, as `dispatchAction` takes it, and by whom."""

    delegation_id: strawberry.ID = given("The delegation.")
    agent_id: strawberry.ID | None = optional("The acting agent; any that is bound, unless told.")
    scope: Scope = given("The scope of the action.")
    action_id: strawberry.ID | None = optional("The action, where the scope has several.")
    source_ip: str | None = optional("The address that it would come from; unknown, unless told.")
    at: Instant | None = optional("When it would be asked for: the terms, the status and the clock of then.")
    path_parameters: JSON | None = optional(
        "A value for each parameter of the action's path; they are judged only if they are given."
    )
    query: JSON | None = optional("An object that becomes the query string.")
    body: JSON | None = optional("What would be sent as application/json.")
