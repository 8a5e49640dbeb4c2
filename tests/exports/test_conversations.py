"""The conversation in the end, from its messages."""

from exports.made import created, renamed, turn

from stream_erc.exports.conversations import final_turns, fold


def test_a_revision_replaces_its_turn_and_a_name_holds_for_the_turns_before_it() -> None:
    messages = [
        created(),
        turn(0, "speaker_1", "a", 0, 10),
        turn(1, "speaker_2", "b", 5, 20, others=["speaker_1", "speaker_3"]),
        renamed("speaker_1", "Anna"),
        turn(2, "Anna", "c", 20, 30),
        turn(1, "Anna", "b", 5, 20, type="turn.revised", revision=1),
        renamed("Anna", "Ann"),
        renamed("speaker_3", "Ann"),
    ]
    (found,) = fold(messages)
    assert [t["speaker"] for t in found.turns] == ["Ann"] * 3
    assert messages[1]["speaker"] == "speaker_1", "the messages themselves stay as they are"


def test_mentions_of_a_renamed_speaker_change_too() -> None:
    messages = [turn(1, "Tom", "b", 5, 20, others=["speaker_1", "speaker_2"])]
    (found,) = fold([*messages, renamed("speaker_1", "Anna"), renamed("speaker_2", "Anna")])
    assert found.turns[0]["others"] == ["Anna"]


def test_a_turn_that_failed_in_the_end_is_no_turn_and_stays_known() -> None:
    failed = {"type": "turn.failed", "session_id": "session-1", "turn": 0, "message": "m"}
    (found,) = fold([turn(0, "a", "b", 0, 10), failed])
    assert [m["type"] for m in found.turns] == ["turn.failed"] and final_turns(found) == []


def test_sessions_are_kept_apart_in_their_order() -> None:
    other = {**turn(0, "b", "y"), "session_id": "session-0"}
    found = fold([turn(1, "a", "x"), other, turn(0, "a", "w"), renamed("a", "c")])
    assert [(c.id, [t["speaker"] for t in c.turns]) for c in found] == [
        ("session-1", ["c", "c"]),
        ("session-0", ["b"]),
    ]


def test_labels_are_those_of_the_checkpoint_and_any_others_of_the_turns() -> None:
    (found,) = fold([created(), turn(0, "a", "x", label="awe")])
    assert found.labels == ["neutral", "joy", "anger", "awe"]


def test_the_duration_reaches_to_the_end_of_the_last_turn() -> None:
    (found,) = fold([turn(0, "a", "x", 0, 900), turn(1, "a", "x", 100, 700)])
    assert found.duration_ms == 900
    assert fold([turn(0, "a", "x")])[0].duration_ms == 0
