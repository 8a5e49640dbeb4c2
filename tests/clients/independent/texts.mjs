// A conversation whose turns the client knows: texts, one turn of audio, a rename and a correction.
//
//   node texts.mjs URL [FILE.wav] [--events out.jsonl] [--token TOKEN] [--cut N]
//
// FILE.wav has 16-bit samples; its first four seconds are one of the turns.

import { parseArgs } from 'node:util';
import { cutAtRandom, encode, follow, readWav, Session } from './client.mjs';

const SPAN_MS = 4000;

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      events: { type: 'string' },
      token: { type: 'string' },
      cut: { type: 'string', default: '0' },
    },
  });
  const [url, path] = positionals;
  if (!url) throw new Error('usage: node texts.mjs URL [FILE.wav] [--events out.jsonl] [--cut N]');
  const wav = path ? readWav(path) : null;

  const configuration = { turns: 'appended', pace: 'replay' };
  if (wav) configuration.audio = { encoding: 'pcm_s16le', sample_rate_hz: wav.rate };
  const session = new Session(url, { configuration, token: values.token });
  const finished = follow(session, { eventsPath: values.events });
  if (Number(values.cut)) cutAtRandom(session, Number(values.cut));

  const say = (speaker, text) => session.input({ type: 'turn.append', speaker, text });
  // Only a turn that was told can be corrected, and only who was heard can be renamed.
  const told = (turn) => new Promise((resolve) => {
    session.on('event', (event) => {
      if (event.turn === turn) resolve();
    });
  });

  session.connect();
  say('Ann', 'I have been waiting for you for an hour!');
  say('Ben', 'I am so sorry, the train was late again.');
  say('Ann', 'You could have called me, at least.');
  say('Ben', 'My phone was dead. I really wanted to be here in time.');
  let last = 4;
  if (wav) {
    // The span may be said before its audio is sent: the turn waits for it.
    session.input({ type: 'turn.append', speaker: 'Ben', audio_start_ms: 0, audio_end_ms: SPAN_MS });
    const frame = Math.round(wav.rate / 10);
    const samples = wav.samples.subarray(0, Math.ceil((wav.rate * SPAN_MS) / 1000));
    for (let at = 0; at < samples.length; at += frame) session.audio(encode(samples.subarray(at, at + frame), 'pcm_s16le'));
    last++;
  }
  say('Ann', 'Fine. I am just glad that nothing happened to you.');
  await Promise.race([told(last), finished]);
  session.input({ type: 'speaker.rename', speaker: 'Ben', name: 'Benjamin' });
  session.input({ type: 'turn.correct', turn: 1, speaker: 'Ann' });
  say('Benjamin', 'Thank you! Let us go and have a wonderful evening.');
  session.close();

  const { conversation, differences } = await finished;
  console.log('\nThe conversation as it stands:');
  for (const turn of conversation.turns.values()) console.log(`  ${turn.speaker}: ${turn.text} <${turn.emotion?.label}>`);
  if (differences.length) process.exitCode = 1;
}

main().catch((error) => {
  console.error(`texts: ${error.message}`);
  process.exitCode = 1;
});
