"""The protocol: the messages that a client and the server exchange.

A conversation is one *session*. A client sends audio, or turns, over a WebSocket and receives messages: JSON
objects in text frames. The file ``EVENTS.jsonl`` of a replay holds the same messages, one per line.
``docs/protocol.md`` lists every message with its fields below this text (written from
`stream_erc.protocol.messages`); the JSON Schema is ``docs/protocol.schema.json``.

Connecting
    The endpoint is ``ws://HOST:PORT/v1/session`` (``wss://`` with TLS). Text frames are UTF-8 JSON objects
    with a ``type``; binary frames are audio. Compression is not used.

    The server answers other paths, and a plain GET of this one (426), by HTTP: see ``docs/http.md``. It
    refuses a WebSocket with 401 for a wrong bearer token, 403 for a page or a name that may not connect, and
    503 while it is stopping or has too many connections.

    If the server requires a token, the client sends it in the request's header
    ``Authorization: Bearer TOKEN``. A browser cannot set headers and sends it as its first message,
    ``session.authenticate``; the server sends nothing before that. A browser's ``Origin`` must be the
    server's own, or one that the server is configured to allow.

Beginning
    1. The server sends ``session.created``: the models, encodings, limits, the default configuration, and the
       ``resume_token``.
    2. The client may send ``session.update`` before any audio or turn; ``session.updated`` answers. Fields
       that it leaves out have their defaults. If it is refused, an ``error`` says why, and the previous
       configuration still holds. A later ``session.update`` replaces an earlier one as a whole.
    3. The client sends audio in binary frames, in the agreed encoding and sample rate. A frame may have any
       length up to ``limits.max_frame_ms``; 20 to 100 ms are usual. Samples are the only clock, so silence
       must be sent too. (A client that does not wait for ``session.updated`` must be sure that the server
       supports what it requested.)

Listening
    For each turn that it hears, the server sends ``speech.started``, then ``turn.partial`` during the turn
    (with ``partials``), then ``speech.stopped`` as soon as the pause is long enough, and finally
    ``turn.final``, with the speaker, the words, the emotion and its probabilities, and the latency of each
    stage. Speech in another language than English comes in its own words and, if the recognizer translates,
    in English too: the emotion is read from that. A turn whose voice told little about who spoke says so
    (``speaker_unsure``), and so does one in which others speak as well (``overlap``, ``others``; the names
    are those of the moment, and ``speaker.updated`` holds for them too). ``turn.revised`` replaces an earlier
    turn when later voices, or a ``turn.correct``, show that somebody else spoke it. The turns after it are
    sent again too, since the conversation's memory has changed. ``turn.failed`` reports a turn that could not
    be processed.
    All times are integer milliseconds of audio since the beginning of the session's audio.

    The pause that ends a turn depends on its words: it is shorter after a sentence, longer after words that
    sound unfinished. If a live client sends no audio for 1.5 s in the midst of a turn, and answers a
    WebSocket ping, the turn ends there; audio that comes later begins another one. This end alone comes
    from a clock: a session that is resumed keeps it, but the same audio without the pause has one turn. A
    client that does not answer is on a network that is slow or dead, and the turn waits for it. A turn that
    the client has appended waits for its audio, or for ``session.close``, as does any turn with
    ``pace`` ``"replay"``.

    From time to time the server sends ``input.acknowledged``, and ``heartbeat`` when it has sent nothing else
    for ten seconds. ``pong`` answers ``ping``. If a client sends no frame for ``limits.idle_timeout_ms``
    while the server is ready to read one, the server closes the connection (4408); the session can be
    resumed. WebSocket's own pings and pongs do not count.

Channels
    Audio is mono unless ``audio.channels`` in ``session.update`` says how many channels it has, up to 8, as
    of a call whose two ends are recorded apart. A frame then holds a sample of each channel in turn, the
    first channel first, and only whole turns of them: 2 bytes a channel with ``pcm_s16le``. Each channel is
    heard as if it were alone, and all of them are one conversation. ``opus`` has one channel. Channels cannot
    be combined with appended turns.

    ``channel_names`` names the speaker of each channel. Where there is none, or a null in its place, the
    speakers of the channel are told by their voices; a speaker is never in two channels. ``speakers`` is
    their number in each of these channels. One channel may be named as well.

    ``channel`` (0, 1 ...) on ``speech.started``, ``speech.stopped``, ``turn.partial``, ``turn.final``,
    ``turn.revised`` and ``turn.failed`` says which one it was. Turns of different channels may overlap in
    time: they are numbered, and classified, in the order in which their ends are decided, the first channel
    first where that is at the same moment. So a turn may begin before the one before it. Several turns may be
    spoken at a time: a partial turn replaces the one before it in its channel, and the final turn of the
    channel replaces both. Times, ``audio_ms`` included, count each moment once, whatever the number of
    channels. ``limits.max_frame_ms`` counts the audio of all channels together.

Turns that the client knows
    With ``turns: "appended"`` in ``session.update``, the client sends each turn as ``turn.append``, in order:
    ``text``, or an audio span (``audio_start_ms``, ``audio_end_ms``), or both, and the ``speaker`` if known.
    A span may lie ahead of the audio sent so far (the turn waits for it), and may begin up to
    ``limits.appended_audio_ms`` back. The server determines what is missing: the words by recognition, the
    speaker by the voice. A turn whose span begins after the end of the audio fails. A session in which every
    turn has a text needs no audio at all.

Speakers
    ``speaker.rename`` gives a speaker another name; ``speaker.updated`` reports it, and it holds for all
    turns, earlier ones included. ``turn.correct`` says who spoke a turn.

    Voices can be known by name. ``session.created`` lists the server's known ``voices``. A client that asks
    for some of them in ``session.update`` gets their names as speakers; strangers remain ``speaker_1`` and
    so on. ``voice.enrol`` makes another voice known to the session: from a turn, whose speaker then has the
    name in all turns, or from a clip. ``voice.enrolled`` reports it. If somebody else has that name, both are
    one speaker from then on, and the turns that a correction can still reach are sent again. With ``keep``, a
    server that ``keeps_voices`` keeps the voice for later sessions; the ``warning`` ``voice_not_kept`` says
    if it could not. A client must enrol nobody who has not agreed to it. Where channels are heard
    separately, no voices are known.

    An input takes effect when everything sent before it has been processed: audio, turns and other inputs. So
    its effect does not depend on the server's load. A rename sent right after an appended turn finds that
    turn's speaker.

Ending
    The client sends ``session.close``. The server finishes the audio that it has and sends ``session.closed``
    with totals: audio, turns, failed turns, speakers. It then closes the connection with 1000. Once the
    client has answered that, the session is deleted, unless ``session.close`` said ``keep``. With
    ``session.delete`` instead, nothing is finished: the session ends at once and is deleted, and
    ``session.deleted`` says so. Both sides can
    reconcile the totals: ``audio_ms`` is the audio that the client sent, rounded, and
    ``turns + failed_turns`` is the number of turns that the server reported.

    ``summary`` is the whole of the conversation by speaker, from the turns as they are in the end: revised
    turns count as revised, under the last names. *Speaking time* is the length of a speaker's turns, and
    ``share`` its part of all speakers' speaking time; where two speak at once, both do. For each label:
    the turns that expressed it, their length, and its mean ``probability`` over all turns of the speaker,
    each turn counted once. A *shift* is a turn with another label than the same speaker's turn before,
    whoever spoke between. An *interruption* is a turn that begins while somebody else's turn goes on, after
    its first moment and before its end, a short "mhm" included; a turn is compared with the 32 before it.
    Two speakers who turned out to be one, too late for their turns to be sent again, are counted together,
    their shifts each from their own turns.

Saving as a file
    A client can have a session's turns as a file: subtitles, a table, annotations. On a new connection, its
    first message is ``session.export`` with the session's ``resume_token`` and one of the formats that
    ``session.created`` lists in ``exports`` (its ``session.created`` need not be waited for). The server
    answers with ``session.exported`` and closes with 1000. The file holds the turns so far as they are now,
    revised and under the last names. The session itself goes on; one that has ended can be saved until
    ``limits.retention_ms`` after its end.

Losing nothing
    ``turn.final``, ``turn.revised``, ``turn.failed``, ``speaker.updated``, ``voice.enrolled`` and
    ``session.closed`` are *events*. Their ``event_id`` is 1, 2, 3 ... without a gap over the whole session.
    The server stores the session before it sends an event. Other messages (``speech.started``,
    ``speech.stopped``, partial turns, acknowledgements) may be repeated or missing after a reconnection.

    Inputs (``turn.append``, ``turn.correct``, ``speaker.rename``, ``voice.enrol``) may carry an ``input_id``:
    1, 2, 3 ... in the order in which they are sent. Either all inputs carry one or none does. The server
    ignores an input whose ``input_id`` it has had before, without an answer and whatever its content. A
    refused input has used its ``input_id`` too, unless the message or the ``input_id`` itself was wrong.
    Audio is identified by its position.

    ``input.acknowledged`` tells the client what the server has stored: the audio before ``audio_ms`` and the
    inputs up to ``input_id``. The client keeps the rest, in order. It may forget what is stored, but should
    keep the last minutes of that too, for a store that goes back in time.

    When the connection is lost before ``session.closed``, the client connects again (at once, then after
    growing pauses), to this server or to another one on the same store. Instead of ``session.update`` it
    sends ``session.resume`` with the ``resume_token`` and the last ``event_id`` that it received. It need not
    wait for ``session.created``, which still comes first and is to be ignored. The server answers
    ``session.resumed``, sends the events that the client has missed, and continues. The client sends its
    audio from ``audio_ms`` and its inputs after ``input_id`` again, interleaved as before, then anything new;
    ``session.close`` too, if it had sent that. It should drop the partial turns that it shows. The result is
    the same as without the interruption: no turn is lost or repeated, and speakers and probabilities are the
    same. (The audio position is a whole second if the sample rate is not 16 kHz. With opus, probabilities may
    differ by rounding.)

    A session is resumed on one connection at a time: a second one takes it over, and the first is closed
    (4409; on another server, when that server next has something to store). A token opens only the session it
    was issued for, until ``limits.retention_ms`` after the loss. After that time, and for an unknown token,
    the answer is the error ``resume_refused`` and close code 4404: begin a new session. A closed session can
    be resumed too, for its last events.

    A session that had not begun (no audio, no turn) can still be configured by ``session.update`` after
    ``session.resumed``. ``session.resumed`` contains the current configuration. A client that never received
    ``session.updated``, or whose session is at its beginning again, should compare it with its request, and
    send ``session.update`` again if they differ.

    Before a planned stop the server sends ``session.going_away``, stores the session and closes with 1012.
    The client should resume.

A store that goes back in time
    After a power cut, a failover to a replica that lagged, or from a backup, a store may have less than it
    acknowledged. The session is then taken up where the store has it. ``session.resumed`` gives an
    ``event_id`` below the client's, and an ``audio_ms`` and an ``input_id`` that were acknowledged before.
    A client that still has everything after these sends it again as always, and nothing is lost: equal
    input makes equal events, so the events that it knows come again with their ids. All their fields are
    the same but ``created_at`` and ``latency_ms``, and the client ignores them. (Different are those of
    opus, by rounding, and a turn that ended because no audio came.) An event that comes again and is not
    the same replaces the one that the client knows.

    What the client no longer has is lost. It says so right after ``session.resumed`` by ``input.skip``,
    with the ``audio_ms`` and the ``input_id`` after which it goes on. Silence is heard in place of the
    audio, up to an hour of it; the inputs are left out; the positions stay as they were. The turns in
    between are no longer part of the session, and the later events count on from the store's: one whose
    number, or whose ``turn``, the client knows replaces it.

    If the store does not even have the session any more, the answer is ``resume_refused``. A client that
    still has everything from the beginning can begin a new session with it, whose events are the same.

Limits
    Live audio may run ahead of the clock by ``limits.burst_ms``. After a resumption it may also run ahead by
    the audio not yet acknowledged and by the time without a connection. Beyond that, the server sends the
    error ``audio_too_fast`` and closes with 1008. With ``pace: "replay"`` the server reads audio as fast as
    it processes it, and processes live sessions first. If a client does not read, the server stops reading
    from it too, and closes the connection (4429) after a while. Text frames are limited to a hundred per
    second, a thousand at once. At most a thousand inputs, of 4 MiB in memory, may wait for audio or for one
    another. An appended turn lasts at most 120 seconds, and begins at most so long before the end of one that
    was appended earlier. If too much waits in all sessions together, the server reads no more from those with
    more than their share, and refuses what waits for audio that is yet to come (``too_many_messages``).
    Text frames of more than 256 Ki characters at once and 16 Ki a second, but for clips of voices, are read
    later.
    Before ``session.created``, a message may have at most 64 KiB. When turns are more than five seconds late
    because the server is overloaded, it sends the ``warning`` ``behind``.

Errors
    An ``error`` has a ``code``, a ``message`` that says what was expected and what came, and ``retryable``.
    What was refused has changed nothing. The session continues, unless the table gives a close code.

    =========================  ========  =========  ==================================================
    code                       closes    retryable  when
    =========================  ========  =========  ==================================================
    ``invalid_message``        -         no         not JSON, an unknown type or field, a wrong value
    ``invalid_audio``          -         no         half a sample, too long a frame, a wrong encoding
    ``invalid_configuration``  -         no         an unknown model, label, language or sample rate
    ``invalid_turn``           -         no         no text or span, a span out of reach, an unknown turn
    ``invalid_speaker``        -         no         an unknown speaker, or a name that is taken
    ``invalid_voice``          -         no         too little speech, a turn out of reach, an unusable name
    ``invalid_input_id``       -         no         an ``input_id`` is missing, or one is skipped
    ``invalid_export``         -         no         an unknown format, or one that these turns do not fit
    ``out_of_order``           -         no         a message at a wrong time: audio after ``session.close``
    ``session_full``           -         no         16 MiB of events: close it and begin another session
    ``too_many_errors``        1008      no         twenty unusable frames in a row
    ``authentication``         1008      no         a missing, wrong or late token
    ``audio_too_fast``         1008      yes        live audio too far ahead of the clock
    ``too_many_messages``      1008      yes        too many text frames a second, or too much that waits
    ``resume_refused``         4404      no         an unknown, expired or foreign token; a missing model
    ``idle``                   4408      yes        no frame for a long time; resume
    ``taken_over``             4409      no         the session was resumed on another connection
    ``slow_reader``            4429      yes        messages were not read for a long time; resume
    ``server_full``            1013      yes        the server has as many sessions as it accepts
    ``internal``               1011      yes        an error of the server; resume
    =========================  ========  =========  ==================================================

    When a limit was exceeded or the token is wrong, the ``error`` and the close (1008) follow after some
    seconds in which the server reads nothing.

    Two cases close without an ``error``: a frame larger than ``limits.max_message_bytes`` (1009) and a text
    frame that is not UTF-8 (1007). Samples that are not a number are heard as silence; samples beyond full
    scale are clipped.
"""
