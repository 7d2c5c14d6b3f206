from service.segment_table import segment_table
from service.wire import Decision, SegmentFields


def test_an_empty_table_has_its_head() -> None:
    assert segment_table(("a", "b"), []) == (
        "channel,role,index,start_ms,end_ms,partial,label,abstain,score_a,score_b,"
        "smoothed_label,utterance_id\r\n"
    )


def test_silence_between_utterances_leaves_its_cells_empty() -> None:
    scores = {"a": 0.0, "b": 0.0}
    silence = SegmentFields(
        channel=0,
        role="customer",
        index=3,
        start_ms=400,
        end_ms=2400,
        partial=False,
        scores=scores,
        label=None,
        abstain="no_speech",
        smoothed=Decision(label=None, scores=scores),
        utterance_id=None,
    )
    _, line = segment_table(("a", "b"), [silence]).splitlines()
    assert line == "0,customer,3,400,2400,false,,no_speech,0.0,0.0,,"
