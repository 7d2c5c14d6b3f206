from service.segment_table import segment_table
from service.wire import Decision, SegmentFields


def test_an_empty_table_has_its_head() -> None:
    assert segment_table(("a", "b"), []) == (
        "channel,role,index,start_ms,end_ms,partial,label,abstain,score_a,score_b,"
        "smoothed_label,utterance_id\r\n"
    )


def segment(channel: int, index: int, end_ms: int) -> SegmentFields:
    scores = {"a": 0.0, "b": 0.0}
    return SegmentFields(
        channel=channel,
        role="customer",
        index=index,
        start_ms=400,
        end_ms=end_ms,
        partial=False,
        scores=scores,
        label=None,
        abstain="no_speech",
        smoothed=Decision(label=None, scores=scores),
        utterance_id=None,
    )


def test_silence_between_utterances_leaves_its_cells_empty() -> None:
    _, line = segment_table(("a", "b"), [segment(0, 3, 2400)]).splitlines()
    assert line == "0,customer,3,400,2400,false,,no_speech,0.0,0.0,,"


def test_lines_are_in_the_order_of_time_whatever_was_told_first() -> None:
    """A short utterance's segment is told when it has ended, after later ones of the other."""
    told = [(1, 0, 800), (0, 0, 800), (0, 1, 1200), (1, 1, 600), (1, 2, 1200)]
    _, *lines = segment_table(("a", "b"), (segment(*one) for one in told)).splitlines()
    ends = [(line.split(",")[4], line.split(",")[0]) for line in lines]
    assert ends == [("600", "1"), ("800", "0"), ("800", "1"), ("1200", "0"), ("1200", "1")]
