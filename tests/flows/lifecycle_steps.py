"""The whole life of delegations as steps, each of the product and of the model, which must answer alike."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.delegations import acceptance, amending, bindings, endings, offers, suspension, trust
from app.delegations.acceptance import OfferRef
from app.identity.callers import Caller
from app.proxy.attempts import Completion, Go, No, Released, Withheld
from app.rules.errors import Refusal
from app.rules.ids import BindingId, DelegationId, Instant
from app.rules.tokens import TokenKind
from tests.flows import lifecycle_drawn as drawn
from tests.flows.lifecycle_compared import by_the_model, differences, in_the_store, told
from tests.flows.lifecycle_drawn import CAPS, JUMPS, SCORES, SENT, indexes, rarely
from tests.flows.lifecycle_model import Deal
from tests.flows.lifecycle_parts import Change, Paper, Place, Token, Use
from tests.flows.lifecycle_stage import ACTORS, CAN, UNHELD, Stage
from tests.flows.lifecycle_usage import DAY, HOUR, SECOND
from tests.world import PLANS

T = TypeVar("T")

MOST_LIVING = 3
LATE = 6  # steps

alive = precondition(lambda self: self.living())
late = precondition(lambda self: self.living() and self.taken >= LATE)


class Lifecycle(RuleBasedStateMachine):
    """Each rule is one step of the product and of the model, which must answer alike. `which` chooses among what there
    is: of what has ended only the last, and that rarely. `alive` are rules for what has not ended, and `late` are those
    that end it, when something has happened before.
    """

    def __init__(self, on: Stage) -> None:
        super().__init__()
        self.on = on
        self.deals: list[Deal] = []
        self.flights: list[tuple[Deal, Use, Go]] = []
        self.scores: dict[str, int | None] = dict.fromkeys(ACTORS)
        self.refs: dict[str, OfferRef] = {}
        self.stale: dict[str, list[str]] = {}
        self.receipts: dict[str, object] = {}
        self.alike = True
        self.taken = 0
        on.begin()

    def living(self) -> list[Deal]:
        return [deal for deal in self.deals if deal.state in ("PENDING", "ACTIVE", "SUSPENDED")]

    def chosen(self) -> list[Deal]:
        living = self.living()
        return [*living[::-1] * 3, *[deal for deal in self.deals if deal not in living][-1:]]

    def places(self) -> list[tuple[Deal, Place]]:
        found = [(deal, place) for deal in self.chosen() for place in deal.places]
        return sorted(found, key=lambda each: each[1].ended)

    # -- the agreement

    @initialize(terms=drawn.papers, sandbox=some.sampled_from((False, False, True)))
    def begin(self, terms: Paper, sandbox: bool) -> None:
        """An accepted delegation, so that most steps have something to do."""
        self._report(ACTORS[0], 61, False)
        self.offer(terms, sandbox, True, 3 * DAY, ACTORS[0])

    @precondition(lambda self: len(self.living()) < MOST_LIVING)
    @rule(
        terms=drawn.papers,
        sandbox=some.sampled_from((False, False, True)),
        addressed=some.booleans(),
        lapses=some.sampled_from((HOUR, 3 * DAY, 40 * DAY)),
        taken_by=some.none() | drawn.actors,
    )
    def offer(self, terms: Paper, sandbox: bool, addressed: bool, lapses: int, taken_by: str | None) -> None:
        self._step()
        cast, world = self.on.cast, self.on.world
        now = self.on.now()
        terms = replace(terms, until=now + terms.until)
        minted = None if addressed else world.keys.mint(TokenKind.OFFER)
        draft = world.draft(
            cast.agent.id,
            cast.delegate.id,
            scopes=sorted(terms.scopes),
            acceptance="ADDRESSED" if addressed else "TOKEN",
            environment="SANDBOX" if sandbox else "LIVE",
            offer_expires_at=Instant(now + lapses),
            expires_at=terms.until,
            require_trust_score_above=terms.floor,
            **{CAPS[kind][0]: cap for kind, cap in terms.caps.items()},
        )
        row, _ = self.on.write(offers.offer, cast.delegator.owner, draft, minted, PLANS)
        assert not isinstance(row, Refusal)
        deal = Deal(row.id, CAN, terms, now + lapses, sandbox, addressed)
        deal.offered()
        self.refs[deal.id] = OfferRef(minted.hash, None) if minted else OfferRef(None, row.id)
        self.stale[deal.id] = []
        self.deals.append(deal)
        if taken_by:
            self._accept(deal, taken_by)

    @precondition(lambda self: any(deal.state == "PENDING" for deal in self.deals))
    @rule(which=indexes, by=some.none() | drawn.actors)
    def answer_offer(self, which: int, by: str | None) -> None:
        """Accepts it for an agent, or declines it."""
        self._step()
        open_ones = [deal for deal in self.chosen() if deal.state == "PENDING"]
        deal = _one([*open_ones, *self.chosen()], which)
        if by:
            self._accept(deal, by)
            return
        answer, at = self.on.write(acceptance.decline, self._delegate, self.refs[deal.id], None)
        self._alike(answer, deal.decline(at))

    def _accept(self, deal: Deal, actor: str) -> None:
        agent = self.on.cast.actors[actor]
        answer, at = self.on.write(
            acceptance.accept,
            self._delegate,
            self.refs[deal.id],
            agent.id,
            self.on.world.keys,
            acknowledged=True,
            expected_hash=None,
            accept_key=None,
        )
        issued = answer.issued if isinstance(answer, acceptance.Accepted) else None
        self._alike(answer, deal.accept(at, drawn.place(deal, actor, issued)))

    @alive
    @rule(which=indexes, wrongly=rarely)
    def suspend_or_resume(self, which: int, wrongly: bool) -> None:
        self._step()
        suspended = [deal for deal in self.living() if deal.state == "SUSPENDED"]
        deal = _one(suspended or self.chosen(), which)
        if (deal.state == "SUSPENDED") == wrongly:
            answer, at = self.on.write(suspension.suspend, self._delegator, _id(deal), "to look into it")
            self._alike(answer, deal.suspend(at))
        else:
            resumed, at = self.on.write(suspension.resume, self._delegator, _id(deal))
            self._alike(resumed, deal.resume(at))

    @late
    @rule(which=indexes, by_delegate=some.booleans())
    def revoke(self, which: int, by_delegate: bool) -> None:
        self._step()
        deal, by = _one(self.chosen(), which), self._delegate if by_delegate else self._delegator
        answer, at = self.on.write(endings.revoke, by, _id(deal), "over")
        flying, open_tokens = deal.in_flight(), len(deal.open_tokens(at))
        living = sum(not place.ended for place in deal.places)
        self._alike(answer, deal.revoke(at, by_delegate=by_delegate))
        if isinstance(answer, endings.Revoked):
            got = answer.receipt
            if deal.id not in self.receipts:
                assert (got.bindings_ended, got.tokens_ended) == (living, open_tokens)
                assert (got.in_flight_aborted, got.drained) == (flying, not flying)
            assert self.receipts.setdefault(deal.id, got) == got

    @alive
    @rule(by=some.sampled_from(JUMPS), which=indexes, swept=some.booleans())
    def time_passes(self, by: int | None, which: int, swept: bool) -> None:
        self._step()
        if by is None:  # whole hours, as all that is due
            by = max(1, -((self.on.now() - _one(self.living(), which).terms.until) // HOUR)) * HOUR
        self.on.jump(by)
        for deal in self.deals:
            deal.jump(by)
        if swept:
            self.compare()  # what the clock has done is true before anybody records it
            self._sweep()

    def _sweep(self) -> None:
        _, at = self.on.write(endings.sweep)
        for deal in self.deals:
            deal.sweep(at)

    # -- its terms

    @alive
    @rule(which=indexes, change=drawn.limits, stale_by=drawn.stale)
    def amend_limits(self, which: int, change: Change, stale_by: int) -> None:
        self._amend(which, change, stale_by)

    @alive
    @rule(which=indexes, change=drawn.scopes, stale_by=drawn.stale, then=some.none() | drawn.hashes)
    def amend_scopes(self, which: int, change: Change, stale_by: int, then: str | None) -> None:
        """And perhaps the delegate acknowledges at once."""
        deal = self._amend(which, change, stale_by)
        if then and deal.proposal:
            self.compare()
            self._step()
            self._acknowledge(deal, then)

    def _amend(self, which: int, change: Change, stale_by: int) -> Deal:
        self._step()
        deal, now = _one(self.chosen(), which), self.on.now()
        if change.until is not None:
            change = replace(change, until=now + change.until)
        version = deal.terms.version + stale_by
        proposed = self._hash(deal, proposed=True)
        asked = amending.Amendment(_id(deal), version, drawn.changes(change), "needed otherwise")
        answer, at = self.on.write(amending.amend_delegation, self._delegator, asked)
        self._alike(answer, deal.amend(at, version, change))
        if proposed and proposed != self._hash(deal, proposed=True):
            self.stale[deal.id].append(proposed)
        return deal

    @precondition(lambda self: any(deal.proposal or self.stale[deal.id] for deal in self.living()))
    @rule(which=indexes, what=drawn.hashes)
    def acknowledge(self, which: int, what: str) -> None:
        self._step()
        self._acknowledge(
            _one([deal for deal in self.chosen() if deal.proposal] or self.chosen(), which), what
        )

    def _acknowledge(self, deal: Deal, what: str) -> None:
        known = {"in force": self._hash(deal, proposed=False), "proposed": self._hash(deal, proposed=True)}
        discarded = self.stale[deal.id][-1] if self.stale[deal.id] else None
        hash = {**known, "discarded": discarded}.get(what) or "no terms have it"
        what = next((name for name, has in known.items() if has == hash), what)  # what is proposed once more
        answer, at = self.on.write(amending.acknowledge, self._delegate, _id(deal), hash)
        self._alike(answer, deal.acknowledge(at, what))

    def _hash(self, deal: Deal, *, proposed: bool) -> str | None:
        terms = deal.proposal if proposed else deal.terms
        return self.on.hash(deal.id, terms.version) if terms else None

    # -- who acts under it

    @alive
    @rule(which=indexes, actor=drawn.actors)
    def bind(self, which: int, actor: str) -> None:
        self._step()
        deal, agent, keys = _one(self.chosen(), which), self.on.cast.actors[actor], self.on.world.keys
        answer, at = self.on.write(bindings.create_binding, self._delegate, _id(deal), agent.id, keys)
        self._alike(
            answer, deal.bind(at, drawn.place(deal, actor, None if isinstance(answer, Refusal) else answer))
        )

    @precondition(lambda self: self.places())
    @rule(which=indexes, overlap=some.sampled_from((0, 3_600, 86_400, None)), by_delegate=some.booleans())
    def rotate_or_revoke_binding(self, which: int, overlap: int | None, by_delegate: bool) -> None:
        self._step()
        deal, place = _one(self.places(), which)
        if overlap is None:
            by = self._delegate if by_delegate else self._delegator
            ended, _ = self.on.write(bindings.revoke_binding, by, BindingId(place.id), "no longer needed")
            self._alike(ended, deal.revoke_binding(place))
            return
        id, keys = BindingId(place.id), self.on.world.keys
        answer, at = self.on.write(bindings.rotate_token, self._delegate, id, overlap, keys)
        token = Token("", at) if isinstance(answer, Refusal) else drawn.token(deal, answer)
        self._alike(answer, deal.rotate(token.made, place, token, overlap * SECOND))

    @precondition(lambda self: any(deal.terms.floor is not None for deal in self.living()))
    @rule(actor=drawn.actors, up=some.integers(1, len(SCORES) - 1), online=some.booleans())
    def report(self, actor: str, up: int, online: bool) -> None:
        """Another score than before, where the clock has nothing to record: see test_trust_by_the_clock."""
        self._sweep()
        before = self.scores[actor]
        self._report(
            actor, SCORES[(up + SCORES.index(before if before in SCORES else 0)) % len(SCORES)], online
        )

    def _report(self, actor: str, score: int, online: bool) -> None:
        self._step()
        cast = self.on.cast
        by = cast.authority if online else None
        self._alike(self.on.write(trust.report_trust, by, cast.actors[actor].id, score, "as seen")[0], None)
        for deal in self.deals:
            deal.trust_moves(actor, self.scores[actor], score)
        self.scores[actor] = score

    # -- what is done under it

    @precondition(lambda self: self.places())
    @rule(which=indexes, scope=indexes, times=some.integers(2, 6))
    def act_at_once(self, which: int, scope: int, times: int) -> None:
        self._step()
        self._act(self.places(), which, 0, scope, times)

    @precondition(lambda self: self.places())
    @rule(which=indexes, scope=indexes, sent=some.sampled_from(sorted(SENT)))
    def perform(self, which: int, scope: int, sent: str) -> None:
        self._step()
        if self._act(self.places(), which, 0, scope, 1):
            self._answer(-1, sent)

    def _act(
        self, places: Sequence[tuple[Deal, Place]], which: int, token: int, scope: int, times: int
    ) -> bool:
        """Whether all were admitted. Tokens count from the newest, scopes from those that are lent."""
        deal, place = _one(places, which)
        shown = _one(place.tokens[::-1], token)
        wanted = _one([*sorted(deal.terms.scopes) * 3, *CAN, UNHELD], scope)
        attempts = [self.on.attempt(shown, wanted) for _ in range(times)]
        asked_at = self.on.now()
        answers = list(zip(attempts, self.on.admit(attempts), strict=True))
        when = self.on.decided([each.id for each in attempts], asked_at)
        # Of one batch, all of the same kind: those that are admitted came first.
        for attempt, admission in sorted(
            answers, key=lambda each: (when[each[0].id], isinstance(each[1], No))
        ):
            at = when[attempt.id]
            code = deal.judge(place, shown, wanted, at, self.scores)
            assert (admission.code.value if isinstance(admission, No) else None) == code
            if isinstance(admission, Go):
                self.flights.append((deal, deal.admitted(place, shown, wanted, at), admission))
            else:
                deal.refused(place, code or "", at)
        return all(isinstance(admission, Go) for _, admission in answers)

    @precondition(lambda self: self.flights)
    @rule(which=indexes, sent=some.sampled_from(sorted(SENT)))
    def answer(self, which: int, sent: str) -> None:
        self._step()
        self._answer(which, sent)

    def _answer(self, which: int, sent: str) -> None:
        deal, use, go = self.flights.pop(which % len(self.flights))
        go = go._replace(row=go.row._replace(requested_at=Instant(use.spent.at)))  # time may have jumped
        completed = self.on.complete(Completion(go, SENT[sent]))
        outcome, code = deal.complete(use, sent, self.on.finished(go.attempt.id), self.scores)
        said = (
            (completed.outcome.value, completed.code.value) if isinstance(completed, Withheld) else completed
        )
        assert said == ((outcome, code) if code else Released())

    # -- after every step

    @invariant()
    def somebody_acts_and_store_and_model_are_alike(self) -> None:
        living = [each for each in self.places() if not each[1].ended]
        if places := self.places() if self.taken % 5 == 0 else living:
            self._act(places, self.taken, self.taken // 2, self.taken // 3, 1)
        self.compare()

    def compare(self) -> None:
        seen, outgoing, now = self.on.read(in_the_store, self.on.cast, [deal.id for deal in self.deals])
        for deal in self.deals:
            differ = differences(seen[deal.id], by_the_model(deal, now, self.on.world.keys.hash))
            assert not differ, f"the store has, and the model expects: {differ}"
        assert outgoing == sum(deal.counts_for_plan(now) for deal in self.deals)
        self.alike = True

    def teardown(self) -> None:
        if not self.alike:
            self.on.found_after = self.on.found_after or self.on.steps
            return
        self.on.runner.run(told(self.on.world))

    def _step(self) -> None:
        self.taken += 1
        self.on.steps += 1
        self.alike = False

    def _alike(self, answer: object, code: str | None) -> None:
        assert (answer.code.value if isinstance(answer, Refusal) else None) == code

    @property
    def _delegator(self) -> Caller:
        return self.on.cast.delegator.owner

    @property
    def _delegate(self) -> Caller:
        return self.on.cast.delegate.owner


def _one(those: Sequence[T], which: int) -> T:
    return those[which % len(those)]


def _id(deal: Deal) -> DelegationId:
    return DelegationId(deal.id)
