"""Issues: what was passed over, in order and short."""

from lanistr.issues import Action, InputIssue, IssueLog


def test_issues_are_kept_in_the_order_in_which_they_were_found():
    log = IssueLog()
    log.add("out_of_range", "a", 1200, Action.DROPPED, "from 0 to 350")
    log.add("unit_converted", "b", "101 degF", Action.CONVERTED)
    assert log.issues == [
        InputIssue("out_of_range", "a", 1200, Action.DROPPED, "from 0 to 350"),
        InputIssue("unit_converted", "b", "101 degF", Action.CONVERTED, ""),
    ]


def test_what_was_seen_is_shortened():
    log = IssueLog()
    log.add("empty", "text", "x" * 1000, Action.DROPPED)
    assert len(log.issues[0].seen) < 100


def test_two_logs_share_nothing():
    one, other = IssueLog(), IssueLog()
    one.add("empty", "text", "", Action.DROPPED)
    assert other.issues == []


def test_an_action_is_its_word():
    assert [str(action) for action in Action] == ["dropped", "clipped", "converted", "kept"]
