"""Issues: what was passed over, in order and short."""

from lanistr.issues import MOST_ISSUES, Action, InputIssue, IssueLog


def test_issues_are_kept_in_the_order_in_which_they_were_found():
    log = IssueLog()
    log.add("out_of_range", "a", 1200, Action.DROPPED, "from 0 to 350")
    log.add("unit_converted", "b", "101 degF", Action.CONVERTED)
    assert log.issues == (
        InputIssue("out_of_range", "a", 1200, Action.DROPPED, "from 0 to 350"),
        InputIssue("unit_converted", "b", "101 degF", Action.CONVERTED, ""),
    )


def test_what_was_seen_is_shortened():
    log = IssueLog()
    log.add("empty", "f" * 1000, "x" * 1000, Action.DROPPED)
    assert len(log.issues[0].seen) < 100
    assert len(log.issues[0].field) < 400


def test_of_very_many_issues_the_first_are_told_and_the_rest_counted_by_kind():
    log = IssueLog()
    for i in range(5000):
        log.add("out_of_range", f"timeseries[{i}].ph", 99, Action.DROPPED)
        log.add("unit_converted", f"timeseries[{i}].weight", "9 lb", Action.CONVERTED)
    assert len(log.issues) == MOST_ISSUES + 2
    assert log.issues[-2:] == (
        InputIssue("out_of_range", "", "4950 more", Action.DROPPED, "not listed individually"),
        InputIssue("unit_converted", "", "4950 more", Action.CONVERTED, "not listed individually"),
    )
    assert log.counts["out_of_range", Action.DROPPED] == 5000


def test_a_detail_is_made_only_for_an_issue_that_is_told():
    log, made = IssueLog(), []

    def detail() -> str:
        made.append(1)
        return "made"

    for i in range(5000):
        log.add("out_of_range", f"timeseries[{i}].ph", 99, Action.DROPPED, detail)
    assert len(made) == MOST_ISSUES
    assert log.issues[0].detail == "made"


def test_two_logs_share_nothing():
    one, other = IssueLog(), IssueLog()
    one.add("empty", "text", "", Action.DROPPED)
    assert other.issues == ()


def test_an_action_is_its_word():
    assert [str(action) for action in Action] == ["dropped", "clipped", "converted", "kept"]
