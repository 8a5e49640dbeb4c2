"""The protocol: how a client and the server speak, and how events become messages.

A conversation is one *session*. A client sends audio (or turns) over a WebSocket and receives messages, JSON
objects as text frames. The same messages, one a line, make the file ``EVENTS.jsonl`` of a replay. Each one
with its fields is listed below the text in ``docs/protocol.md`` (made from `stream_erc.protocol.messages`);
the JSON Schema is ``docs/protocol.schema.json``.

Connecting
    ``ws://HOST:PORT/v1/session`` (``wss://`` with TLS). Text frames are UTF-8 JSON objects with a ``type``;
    binary frames are audio. Compression is not used.

    Any other path, or a plain GET of this one, is answered by HTTP: 404, 426; a wrong bearer token by 401, a
    page that may not connect by 403, a server that stops, or has too many connections, by 503.

    Where the server asks for a token, it comes as the request's header ``Authorization: Bearer TOKEN``, or,
    since a browser cannot set headers, as the first message ``session.authenticate``; until then the server
    says nothing. A browser's ``Origin`` has to be the server's own or one that it was told to allow.

Beginning
    1. The server sends ``session.created``: the models, encodings, limits, the configuration that holds by
       default, and the ``resume_token``.
    2. The client may send ``session.update``, before any audio or turn; ``session.updated`` answers. What is
       left out has its default. Where it is refused, an ``error`` says why, and what held before still holds.
       Sent again, it replaces the one before.
    3. The client sends binary frames of audio: mono, of the encoding and rate agreed on, of any length up to
       ``limits.max_frame_ms``; 20 to 100 ms are usual. Time counts samples: silence has to be sent too.
       (Without waiting for ``session.updated``, it has to be sure that the server has what it asked for.)

Listening
    ``speech.started``, then ``turn.partial`` while the turn is spoken (with ``partials``), then
    ``speech.stopped`` as soon as the pause was long enough, then, when the turn has been understood,
    ``turn.final`` with the speaker, the words, the emotion and its probabilities, and the latency by stage.
    ``turn.revised`` replaces an earlier turn where later voices, or a ``turn.correct``, show that somebody
    else spoke it; the turns after it come again too, since the conversation's memory has changed.
    ``turn.failed`` tells of a turn that could not be read. All times are integer milliseconds of audio since
    the session's audio began.

    Between two events the server sends ``input.acknowledged`` now and then, and ``heartbeat`` where nothing
    else was sent for ten seconds. ``ping`` is answered by ``pong``. A connection on which the client sends no
    frame for ``limits.idle_timeout_ms``, though the server would read one, is closed (4408); it can be
    resumed. WebSocket's own pings and pongs do not count.

Turns that the client knows
    With ``turns: "appended"`` in ``session.update``, the client says each turn with ``turn.append``, in
    order: ``text``, or an audio span (``audio_start_ms``, ``audio_end_ms``), or both, and the ``speaker``
    where it is known. A span may lie ahead of the audio that was sent (the turn waits for it) and back by
    ``limits.appended_audio_ms``. What is missing is found out: words by the recognizer, the speaker by the
    voice. A turn whose span begins after the end of the audio fails. A session in which every turn has a text
    needs no audio at all.

Speakers
    ``speaker.rename`` gives a speaker another name; ``speaker.updated`` tells it, and it holds for all turns,
    earlier ones too. ``turn.correct`` says who spoke a turn.

    Every input acts when all that was sent before it has been understood: audio, turns and other inputs. So
    its effect does not depend on how busy the server is; a rename right after an appended turn finds its
    speaker.

Ending
    The client sends ``session.close``; the server finishes what it heard and sends ``session.closed`` with
    totals: audio, turns, failed turns, speakers. It closes the connection with 1000. Both sides can
    reconcile: ``audio_ms`` is what the client sent, rounded, and ``turns + failed_turns`` how many turns it
    was told of.

Losing nothing
    ``turn.final``, ``turn.revised``, ``turn.failed``, ``speaker.updated`` and ``session.closed`` are
    *events*. Their ``event_id`` is 1, 2, 3 ... without a gap over the whole session. The server stores the
    session before it sends an event. The others (``speech.started``, ``speech.stopped``, partial turns,
    acknowledgements) may come again after a reconnection, or never.

    Inputs (``turn.append``, ``turn.correct``, ``speaker.rename``) may carry an ``input_id``: 1, 2, 3 ... in
    the order in which they are sent, all of them or none. One that came before is ignored, without an answer
    and whatever it says. One that is refused has used up its ``input_id`` all the same, unless it was the
    message or the ``input_id`` itself that was wrong. Audio is known by its position.

    ``input.acknowledged`` says up to where the server will never ask again: the client forgets the audio
    before ``audio_ms`` and the inputs up to ``input_id``, and keeps the rest, in order.

    When the connection is lost without ``session.closed``, the client connects again (at once, then after
    growing pauses), to this server or to another one on the same store, and sends ``session.resume`` with the
    ``resume_token`` and the last ``event_id`` that it received, instead of ``session.update``. It may do so
    without waiting for ``session.created``, which comes first all the same and is to be ignored. The server
    answers ``session.resumed``, then the events that the client has not seen, and goes on. The client sends
    its audio from ``audio_ms`` and its inputs after ``input_id`` again, as they were interleaved, then
    whatever is new; ``session.close`` too, if it had been sent. Partial turns that it shows should be
    dropped. What follows is what would have followed without the interruption: no turn is lost, none comes
    twice, speakers and probabilities are the same. (The audio position is a whole second where the rate is
    not 16 kHz. With opus, probabilities may differ by rounding.)

    A session is resumed on one connection at a time: a second one takes it over and the first is closed
    (4409; on another server, when it next has something to store). A token opens the one session that it was
    given for, until ``limits.retention_ms`` after the loss. After that, for any unknown token, and for a
    ``last_event_id`` that the session does not have, the answer is the error ``resume_refused`` and close
    code 4404: begin a new session. A session that was closed can be resumed for its last events, too.

    A session that had not begun (no audio, no turn) can be configured by ``session.update`` after
    ``session.resumed``, too; ``session.resumed`` says which configuration holds: where ``session.updated``
    never came, compare it, and send ``session.update`` again if it is not the one that was asked for.

    Before a planned stop the server sends ``session.going_away``, stores the session and closes with 1012;
    resume.

Limits
    Live audio may run ahead of the clock by ``limits.burst_ms`` (after a resumption, by what was not yet
    acknowledged and the time that the connection was gone, too); beyond it, the error ``audio_too_fast`` and
    1008. With ``pace: "replay"`` audio is read as fast as it is worked on, behind live sessions. A client
    that does not read what the server sends is not read from either, and after a while is closed (4429). Text
    frames: a hundred a second, a thousand at once. At most a thousand inputs may wait for audio, or for one
    another. Where turns come more than five seconds late, since there is more to do than the server can, the
    ``warning`` ``behind`` says so.

Errors
    An ``error`` has a ``code``, a ``message`` that says what was expected and what came, and ``retryable``.
    What was refused has changed nothing: the session goes on, unless the table gives a close code.

    =========================  ========  =========  ==================================================
    code                       closes    retryable  when
    =========================  ========  =========  ==================================================
    ``invalid_message``        -         no         not JSON, an unknown type or field, a wrong value
    ``invalid_audio``          -         no         half a sample, a frame too long, not of the encoding
    ``invalid_configuration``  -         no         a model, label, language or rate that is not there
    ``invalid_turn``           -         no         neither text nor span, out of reach, an unknown turn
    ``invalid_speaker``        -         no         nobody has the name, or somebody else has it
    ``invalid_input_id``       -         no         one that leaves one out
    ``out_of_order``           -         no         does not fit here, as audio after ``session.close``
    ``session_full``           -         no         64 MiB of events: close it and begin another one
    ``too_many_errors``        1008      no         twenty frames in a row that could not be read
    ``authentication``         1008      no         no token, a wrong one, or none in time
    ``audio_too_fast``         1008      yes        live audio faster than spoken beyond the burst
    ``too_many_messages``      1008      yes        more than 100 text frames a second beyond the burst
    ``resume_refused``         4404      no         unknown, expired or foreign token; a model that is gone
    ``idle``                   4408      yes        nothing came for a long time; resume
    ``taken_over``             4409      no         the session was resumed on another connection
    ``slow_reader``            4429      yes        messages were not read for a long time; resume
    ``server_full``            1013      yes        as many sessions as the server takes
    ``internal``               1011      yes        a mistake of the server; resume
    =========================  ========  =========  ==================================================

    Where a limit was broken or the token is wrong, ``error`` and close (1008) come after some seconds in
    which nothing is read.

    Without an ``error``, a frame larger than ``limits.max_message_bytes`` closes with 1009, a text that is
    not UTF-8 with 1007. Samples that are no numbers are heard as silence, those beyond full scale at full
    scale.
"""
