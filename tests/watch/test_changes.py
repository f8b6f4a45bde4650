"""What is new since the last round, and which alerts follow."""

import datetime as dt
import random
from dataclasses import replace
from decimal import Decimal

from datafixes.alerts.alert import Alert
from datafixes.reconcile.positions import Comparison, Difference, Unsettled
from datafixes.reconcile.symbols import parse_symbol
from datafixes.watch.changes import Failure, Look, Moment, after_round, lasted
from datafixes.watch.state import Seen, State

START = dt.datetime(2026, 2, 3, 16, tzinfo=dt.UTC)
LIMIT = dt.timedelta(minutes=15)


def phantom(account: str = "large", symbol: str = "QCOM", *rows: int) -> Difference:
    return Difference("phantom", account, parse_symbol(symbol), rows or (16,), Decimal("5.0000"), Decimal(0))


def moved() -> Difference:
    return replace(phantom(), kind="account", broker=Decimal(5), elsewhere="tiny")


def missing() -> Difference:
    return Difference("missing", "tiny", parse_symbol("QCOM"), (), Decimal(0), Decimal(5))


def unsettled(account: str = "large", symbol: str = "QCOM") -> Comparison:
    return Comparison((), (Unsettled(account, parse_symbol(symbol), (16,), "an order is in flight"),))


def unknown(*accounts: str, differences: tuple[Difference, ...] = ()) -> Comparison:
    return Comparison(differences, unknown=dict.fromkeys(accounts, "it answers 500"))


class Story:
    """Rounds, a minute after each other."""

    def __init__(self) -> None:
        self.state, self.minute = State(), -1

    def round(self, found: Comparison | Failure | Look) -> list[Alert]:
        self.minute += 1
        look = Look(found) if isinstance(found, Comparison) else found
        moment = Moment(START + dt.timedelta(minutes=self.minute), LIMIT, "book")
        self.state, alerts = after_round(self.state, look, moment)
        return list(alerts)

    def events(self, found: Comparison | Failure | Look) -> list[str]:
        return [alert.event for alert in self.round(found)]


NOTHING = Comparison(())


def test_a_difference_is_told_when_it_appears_changes_and_goes_and_not_in_between() -> None:
    story = Story()
    assert story.events(NOTHING) == []
    [appeared] = story.round(Comparison((phantom(),)))
    assert appeared.title == "1 difference between book and broker appeared"
    assert appeared.lines == ("large QCOM: phantom, row 16: book 5, broker 0",)
    assert story.events(Comparison((phantom(),))) == []
    [changed] = story.round(Comparison((phantom("large", "QCOM", 16, 41),)))
    assert changed.event == "changed"
    assert changed.lines == (
        "large QCOM: phantom, rows 16, 41: book 5, broker 0 (before: phantom, row 16: book 5, broker 0)",
    )
    [gone] = story.round(NOTHING)
    assert (gone.event, gone.lines) == ("gone", ("large QCOM: phantom, rows 16, 41: book 5, broker 0",))
    assert story.events(NOTHING) == []


def test_a_quantity_written_otherwise_is_no_change() -> None:
    story = Story()
    story.round(Comparison((phantom(),)))
    assert story.events(Comparison((replace(phantom(), book=Decimal("5")),))) == []


def test_all_of_a_round_is_one_alert_of_each_kind() -> None:
    story = Story()
    many = tuple(phantom("large", f"A{n}", n + 1) for n in range(1000))
    [alert] = story.round(Comparison(many))
    assert (alert.title, len(alert.lines)) == ("1000 differences between book and broker appeared", 1000)
    alerts = story.round(Comparison((*many[1:], phantom("tiny", "SPY", 7))))
    assert [alert.event for alert in alerts] == ["appeared", "gone"]


def test_nothing_follows_from_an_account_that_does_not_answer() -> None:
    story = Story()
    story.round(Comparison((phantom(), phantom("tiny", "SPY", 19))))
    assert story.events(unknown("large", differences=(phantom("tiny", "SPY", 19),))) == []
    assert story.events(Comparison((phantom(), phantom("tiny", "SPY", 19)))) == []
    story.round(unknown("large", differences=(phantom("tiny", "SPY", 19),)))
    [gone] = story.round(Comparison((phantom("tiny", "SPY", 19),)))
    assert gone.lines == ("large QCOM: phantom, row 16: book 5, broker 0",)


def test_nothing_follows_from_a_position_that_is_not_settled() -> None:
    story = Story()
    story.round(Comparison((phantom(),)))
    assert story.events(unsettled()) == []
    assert story.events(Comparison((phantom(),))) == []
    story.round(unsettled())
    assert story.events(NOTHING) == ["gone"]


def test_a_position_in_the_wrong_account_stays_one_while_one_of_the_two_is_unknown() -> None:
    story = Story()
    [appeared] = story.round(Comparison((moved(),)))
    assert appeared.lines == ("large QCOM: account, row 16: book 5, broker 5 in tiny",)
    for half in (
        unknown("tiny", differences=(phantom(),)),
        unknown("large", differences=(missing(),)),
        replace(unsettled("tiny"), differences=(phantom(),)),
        replace(unsettled("large"), differences=(missing(),)),
    ):
        assert story.events(half) == []
        assert story.events(Comparison((moved(),))) == []
    # What is certain is told all the same.
    assert story.events(unknown("tiny", differences=(phantom("large", "QCOM", 16, 41),))) == ["changed"]


def test_an_account_that_is_unknown_for_too_long_is_told_once_and_when_it_is_back() -> None:
    story = Story()
    assert [story.events(unknown("large")) for _ in range(15)] == [[]] * 15
    [late] = story.round(unknown("large", "tiny"))
    assert (late.event, late.title) == ("unknown", "1 account of which nothing is known")
    assert late.lines == ("large, for 15 min: it answers 500",)
    assert story.events(unknown("large", "tiny")) == []
    [back] = story.round(NOTHING)
    assert (back.event, back.lines) == ("known", ("large, for 17 min: it answers 500",))
    assert story.events(unknown("large")) == []
    assert story.events(NOTHING) == []


def test_the_job_fails_and_recovers_each_told_once() -> None:
    story = Story()
    story.round(Comparison((phantom(),)))
    [failed] = story.round(Failure("The database does not answer"))
    assert (failed.event, failed.lines) == ("failed", ("The database does not answer",))
    assert [story.events(Failure(f"reason {n}")) for n in range(59)] == [[]] * 59
    recovered, gone = story.round(NOTHING)
    assert recovered.title == "The book can be compared with the broker again, after 1 h"
    assert gone.event == "gone"
    assert story.events(NOTHING) == []


def test_a_failing_job_forgets_no_clock() -> None:
    story = Story()
    story.round(unknown("large"))
    for _ in range(20):
        story.round(Failure("away"))
    assert story.events(unknown("large")) == ["recovered", "unknown"]


def test_a_clock_that_was_set_back_delays_no_alert_for_ever() -> None:
    story = Story()
    story.minute = 1000
    story.round(unknown("large"))
    story.minute = 0
    assert [story.events(unknown("large")) for _ in range(16)][-1] == ["unknown"]


def test_a_row_that_cannot_be_compared_is_told_like_a_difference() -> None:
    story = Story()
    row = Seen("large", "row 40", "not comparable", (40,), "", "", why="its quantity is zero")
    [alert] = story.round(Look(NOTHING, (row,)))
    assert alert.lines == ("large row 40: not comparable: its quantity is zero",)
    assert story.events(Look(NOTHING, (row,))) == []
    assert story.events(NOTHING) == ["gone"]


def test_whatever_happens_the_alerts_add_up_to_what_is() -> None:
    # Appeared minus gone is what the last round saw, when everything is known again.
    chance = random.Random(5)
    places = [(account, symbol) for account in ("large", "tiny") for symbol in ("QCOM", "SPY", "NOW")]
    for _ in range(200):
        story, told = Story(), set()
        for last in (*[False] * 8, True):
            found = [phantom(a, s, chance.randrange(1, 3)) for a, s in places if chance.random() < 0.5]
            away = [] if last else [a for a in ("large", "tiny") if chance.random() < 0.3]
            if not last and chance.random() < 0.2:
                story.round(Failure("away"))
                continue
            known = tuple(one for one in found if one.account not in away)
            for alert in story.round(unknown(*away, differences=known)):
                for fact in alert.facts if alert.event in ("appeared", "changed", "gone") else ():
                    told.discard(_key(fact["before"]))
                    told.add(_key(fact["now"]))
        assert told - {None} == {(one.account, str(one.symbol), one.rows) for one in found}


def _key(fact: dict[str, object] | None) -> object:
    return None if fact is None else (fact["account"], fact["symbol"], fact["rows"])


def test_how_long_something_lasted() -> None:
    times = [lasted(dt.timedelta(seconds=s)) for s in (0, 59, 60, 3599, 3600, 7500)]
    assert times == ["0 s", "59 s", "1 min", "59 min", "1 h", "2 h 5 min"]
