"""What a receiver tells of its connections."""

from network.dimse.channel import Report, Reporter, channel_pair, reports_receive


def test_progress_made_while_reports_are_gathered_is_told_too():
    ours, theirs = channel_pair()
    reporter = Reporter(theirs)
    stored = 1

    def first() -> Report:
        return Report("progress", 1, objects_stored=stored)

    def second() -> Report:
        nonlocal stored
        if stored == 1:  # when the first has told, and stores another
            stored = 2
            reporter.progress(1, first)
        return Report("progress", 2)

    reporter.progress(1, first)
    reporter.progress(2, second)
    reporter.start()
    reporter.close(timeout_seconds=20)
    told = [report.objects_stored for report in reports_receive(ours) if report.connection == 1]
    assert told == [1, 2]
    ours.close()
    theirs.close()
