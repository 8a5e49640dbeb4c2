// A client of the stream_erc protocol: streams a WAV file and prints the turns as they come.
//
//   node client.mjs URL FILE.wav [--pace live|replay] [--rate 8000|16000|48000]
//     [--encoding pcm_s16le|pcm_f32le|mulaw|alaw] [--rename old=new] [--events out.jsonl]
//     [--channels NAME,NAME: the speaker of each channel, heard separately; mixed without]
//     [--token TOKEN] [--cut N]
//
// `Session` can be imported: it keeps what the server has not acknowledged and resumes by itself.

import { EventEmitter, once } from 'node:events';
import { createWriteStream, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { isDeepStrictEqual, parseArgs } from 'node:util';
import WebSocket from 'ws';

const SAMPLE_BYTES = { pcm_s16le: 2, pcm_f32le: 4, mulaw: 1, alaw: 1 };
const MAX_BUFFERED = 64 * 1024; // bytes waiting in the socket; more stay in the log
const SILENCE_MS = 45_000; // a heartbeat is due every ten seconds
const RENAME_MS = 60_000; // how long --rename waits for the speaker after the last event
const MAX_ATTEMPTS = 12; // connections in a row that brought nothing
// Known by their type: `session.resumed` has an `event_id` too, but is no event.
const EVENTS = new Set(['turn.final', 'turn.revised', 'turn.failed', 'speaker.updated', 'session.closed']);

// Events emitted: `message` (every message), `event` (events, each once),
// `ready` (connected, configured), `lost` (code), `closed` (the session.closed message), `failed` (Error).
export class Session extends EventEmitter {
  constructor(url, { configuration = {}, token = null } = {}) {
    super();
    this.url = url;
    this.token = token;
    this.configuration = configuration;
    this.format = { encoding: 'pcm_s16le', sample_rate_hz: 16000, ...configuration.audio };
    this.sampleBytes = SAMPLE_BYTES[this.format.encoding] * (this.format.channels ?? 1); // of all channels
    this.log = []; // audio and inputs not yet acknowledged, in the order in which they were given
    this.next = 0; // first entry of the log that this connection has not sent
    this.samples = 0; // given so far
    this.inputId = 0;
    this.lastEventId = 0;
    this.resumeToken = null;
    this.limits = null;
    this.state = 'lost'; // lost, connecting, configuring, ready, done
    this.closing = false;
    this.attempts = 0;
    this.connections = 0;
    this.repeated = 0; // events that came twice
  }

  // What the client says.

  connect() {
    this.state = 'connecting';
    const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    const socket = new WebSocket(this.url, { perMessageDeflate: false, headers });
    this.socket = socket;
    this.connections++;
    this.refusal = null;
    this.trouble = null;
    this.heardAt = Date.now();
    socket.on('open', () => {
      if (this.resumeToken) {
        this.say({
          type: 'session.resume',
          resume_token: this.resumeToken,
          last_event_id: this.lastEventId,
        });
      }
      this.keepAlive = setInterval(() => this.watch(), 1000);
    });
    socket.on('message', (data, binary) => {
      if (socket === this.socket && !binary) this.receive(JSON.parse(data.toString()));
    });
    socket.on('unexpected-response', (request, response) => {
      if (response.statusCode < 500) this.fail(`${this.url} answered ${response.statusCode} ${response.statusMessage}`);
      else socket.terminate();
    });
    socket.on('error', (error) => { // `close` follows
      this.trouble = error.message;
    });
    socket.on('close', (code) => {
      if (socket === this.socket) this.lose(code);
    });
  }

  audio(bytes) {
    if (bytes.length % this.sampleBytes) throw new Error('audio has to be whole samples');
    this.log.push({ audio: bytes, start: this.samples });
    this.samples += bytes.length / this.sampleBytes;
    this.pump();
  }

  input(message) {
    if (this.closing) throw new Error('no input can follow session.close');
    this.log.push({ input: { ...message, input_id: ++this.inputId } });
    this.pump();
    return this.inputId;
  }

  close() {
    this.closing = true;
    this.pump();
  }

  // Resolves when everything given was handed to the socket.
  async drained() {
    while (this.state !== 'done' && (this.state !== 'ready' || this.next < this.log.length)) await sleep(5);
  }

  get audioMs() {
    return Math.round((this.samples * 1000) / this.format.sample_rate_hz);
  }

  // Destroys the connection, as a broken network would.
  cut() {
    this.socket?.terminate();
  }

  say(message) {
    this.saidAt = Date.now();
    this.socket.send(JSON.stringify(message));
  }

  pump() {
    clearTimeout(this.later);
    if (this.state !== 'ready' || this.socket.readyState !== WebSocket.OPEN) return;
    while (this.next < this.log.length) {
      if (this.socket.bufferedAmount > MAX_BUFFERED) {
        this.later = setTimeout(() => this.pump(), 5);
        return;
      }
      const entry = this.log[this.next++];
      if (entry.audio) {
        this.saidAt = Date.now();
        this.socket.send(entry.audio);
      } else {
        this.say(entry.input);
      }
    }
    if (this.closing && !this.closeSent) {
      this.closeSent = true;
      this.say({ type: 'session.close' });
    }
  }

  // Says something before the server finds the connection idle; drops one that is dead.
  watch() {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    const now = Date.now();
    if (now - this.heardAt > SILENCE_MS) this.socket.terminate();
    else if (this.limits && now - this.saidAt > this.limits.idle_timeout_ms / 3) this.say({ type: 'ping' });
  }

  // What the server says.

  receive(message) {
    this.heardAt = Date.now();
    this.emit('message', message);
    switch (message.type) {
      case 'session.created':
        if (this.resumeToken) return; // this one belongs to a session that will not be used
        this.resumeToken = message.resume_token;
        this.id = message.session_id;
        this.limits = message.limits;
        this.attempts = 0;
        this.configure();
        break;
      case 'session.updated':
        if (this.state === 'configuring') this.begin();
        break;
      case 'session.resumed':
        this.limits = message.limits;
        this.forget(message.audio_ms, message.input_id, true);
        if (this.holds(message.configuration)) this.begin();
        else this.configure(); // the session.update was lost
        break;
      case 'input.acknowledged':
        this.attempts = 0;
        this.forget(message.audio_ms, message.input_id, false);
        break;
      case 'error':
        this.refusal = message;
        if (this.state === 'configuring') this.fail(`${message.code}: ${message.message}`);
        break;
    }
    if (EVENTS.has(message.type)) this.event(message);
  }

  event(message) {
    if (message.event_id <= this.lastEventId) {
      this.repeated++;
      return;
    }
    if (message.event_id !== this.lastEventId + 1) {
      this.fail(`event ${message.event_id} came after event ${this.lastEventId}`);
      return;
    }
    this.lastEventId = message.event_id;
    this.attempts = 0;
    this.emit('event', message);
    if (message.type === 'session.closed') {
      this.stop();
      this.emit('closed', message);
    }
  }

  configure() {
    this.state = 'configuring';
    this.say({ type: 'session.update', ...this.configuration });
  }

  holds(configuration) {
    return Object.entries(this.configuration).every(
      ([name, value]) => value === null || isDeepStrictEqual(configuration[name], value),
    );
  }

  begin() {
    this.state = 'ready';
    this.next = 0;
    this.closeSent = false;
    this.emit('ready');
    this.pump();
  }

  // Drops what is not needed any more; after a resumption, the audio begins exactly at `audioMs`.
  forget(audioMs, inputId, exactly) {
    const position = Math.floor((audioMs * this.format.sample_rate_hz) / 1000);
    const kept = [];
    let next = 0;
    this.log.forEach((entry, index) => {
      if (entry.input ? entry.input.input_id <= inputId : this.end(entry) <= position) return;
      if (exactly && entry.audio && entry.start < position) {
        entry = { audio: entry.audio.subarray((position - entry.start) * this.sampleBytes), start: position };
      }
      if (index < this.next) next++;
      kept.push(entry);
    });
    this.log = kept;
    this.next = next;
    if (!exactly) return;
    const first = kept.find((entry) => entry.audio);
    if ((first ? first.start : this.samples) !== position) this.fail(`the audio from ${audioMs} ms is not here any more`);
  }

  end(entry) {
    return entry.start + entry.audio.length / this.sampleBytes;
  }

  lose(code) {
    clearInterval(this.keepAlive);
    if (this.state === 'done') return;
    this.state = 'lost';
    this.emit('lost', code);
    const refused = this.refusal && !this.refusal.retryable && (code === 1008 || code >= 4000);
    if (refused || code === 1009 || this.attempts >= MAX_ATTEMPTS) {
      const why = this.refusal ? `${this.refusal.code}: ${this.refusal.message}` : this.trouble ?? 'connection lost';
      this.fail(`${why} (close code ${code})`);
      return;
    }
    const pause = this.attempts ? Math.min(250 * 2 ** this.attempts, 30_000) : 0;
    this.attempts++;
    setTimeout(() => this.connect(), pause);
  }

  fail(why) {
    if (this.state === 'done') return;
    this.stop();
    this.socket.terminate();
    this.emit('failed', new Error(why));
  }

  stop() {
    this.state = 'done';
    clearInterval(this.keepAlive);
    clearTimeout(this.later);
  }
}

// The conversation as it stands: turns by index, with names and revisions applied.
export class Conversation {
  constructor() {
    this.turns = new Map();
  }

  take(event) {
    if (event.type === 'turn.final' || event.type === 'turn.revised' || event.type === 'turn.failed') {
      this.turns.set(event.turn, { ...event });
    } else if (event.type === 'speaker.updated') {
      for (const turn of this.turns.values()) if (turn.speaker === event.speaker) turn.speaker = event.name;
    }
  }

  // Differences between the server's totals and what was sent and received.
  reconcile(closed, audioMs) {
    const turns = [...this.turns.values()];
    const failed = turns.filter((turn) => turn.type === 'turn.failed').length;
    const differences = [];
    const expect = (name, here, there) => {
      if (here !== there) differences.push(`${name}: here ${here}, at the server ${there}`);
    };
    expect('audio_ms', audioMs, closed.audio_ms ?? 0);
    expect('turns', turns.length - failed, closed.turns);
    expect('failed_turns', failed, closed.failed_turns);
    return differences;
  }
}

const seconds = (ms) => (ms === null ? '-' : (ms / 1000).toFixed(2));

export function show(event) {
  switch (event.type) {
    case 'turn.final':
    case 'turn.revised': {
      const { label, confidence } = event.emotion;
      const span = `${seconds(event.audio_start_ms)}-${seconds(event.audio_end_ms)}`;
      const mark = event.type === 'turn.revised' ? ` (revision ${event.revision})` : '';
      return `${event.turn}${mark} [${span}] ${event.speaker}: ${event.text} <${label} ${confidence.toFixed(2)}>`;
    }
    case 'turn.failed':
      return `${event.turn} failed: ${event.message}`;
    case 'speaker.updated':
      return `${event.speaker} is now ${event.name}`;
    case 'session.closed':
      return `closed: ${event.turns} turns, ${event.failed_turns} failed, ${seconds(event.audio_ms)} s, ${event.speakers.join(', ')}`;
  }
  return event.type;
}

// Cuts the connection `count` times: each time after some of the server's messages and a random pause.
export function cutAtRandom(session, count) {
  let left = count;
  let messages;
  let timer = null;
  const arm = () => {
    clearTimeout(timer);
    timer = null;
    messages = Math.floor(Math.random() * 16);
  };
  const step = () => {
    if (left === 0 || timer || messages-- > 0) return;
    timer = setTimeout(() => {
      if (session.state === 'lost') return;
      left--;
      console.error(`-- cut (${session.state}, event ${session.lastEventId})`);
      session.cut();
    }, Math.random() * 500);
  };
  arm();
  session.on('lost', arm);
  session.on('message', step);
  session.on('closed', () => clearTimeout(timer));
  session.on('failed', () => clearTimeout(timer));
}

// Prints and writes what comes; resolves with the totals once the session is closed.
export function follow(session, { eventsPath } = {}) {
  const conversation = new Conversation();
  const file = eventsPath ? createWriteStream(eventsPath) : null;
  session.on('message', (message) => {
    file?.write(`${JSON.stringify(message)}\n`);
    if (message.type === 'error') console.error(`-- error ${message.code}: ${message.message}`);
    if (message.type === 'warning') console.error(`-- warning ${message.code}: ${message.message}`);
    if (message.type === 'session.going_away') console.error(`-- the server goes away: ${message.reason}`);
    if (message.type === 'session.resumed') {
      console.error(`-- resumed: audio from ${message.audio_ms} ms, inputs after ${message.input_id}, events up to ${message.event_id}`);
    }
  });
  session.on('lost', (code) => console.error(`-- connection lost (${code})`));
  session.on('event', (event) => {
    conversation.take(event);
    console.log(show(event));
  });
  return new Promise((resolve, reject) => {
    session.on('failed', (error) => {
      file?.end();
      reject(error);
    });
    session.on('closed', (closed) => {
      const differences = conversation.reconcile(closed, session.audioMs);
      differences.forEach((difference) => console.error(`-- ${difference}`));
      console.error(`-- ${session.connections} connections, ${session.repeated} events twice, totals ${differences.length ? 'differ' : 'agree'}`);
      file?.end();
      resolve({ closed, conversation, differences });
    });
  });
}

// A WAV file of 16-bit samples: mixed to mono, or with the samples of its channels in turn.
export function readWav(path, { separate = false } = {}) {
  const file = readFileSync(path);
  if (file.toString('latin1', 0, 4) !== 'RIFF' || file.toString('latin1', 8, 12) !== 'WAVE') throw new Error(`${path} is not a WAV file`);
  let format = null;
  for (let at = 12; at + 8 <= file.length; ) {
    const name = file.toString('latin1', at, at + 4);
    const size = file.readUInt32LE(at + 4);
    const body = file.subarray(at + 8, at + 8 + size);
    if (name === 'fmt ') {
      format = { channels: body.readUInt16LE(2), rate: body.readUInt32LE(4), bits: body.readUInt16LE(14) };
      if (format.bits !== 16) throw new Error(`${path} has ${format.bits} bits a sample, not 16`);
    } else if (name === 'data') {
      if (separate) {
        const count = Math.floor(body.length / 2 / format.channels) * format.channels;
        const samples = Int16Array.from({ length: count }, (_, i) => body.readInt16LE(i * 2));
        return { rate: format.rate, channels: format.channels, samples };
      }
      const samples = new Int16Array(Math.floor(body.length / 2 / format.channels));
      for (let i = 0; i < samples.length; i++) {
        let sum = 0;
        for (let c = 0; c < format.channels; c++) sum += body.readInt16LE((i * format.channels + c) * 2);
        samples[i] = Math.round(sum / format.channels);
      }
      return { rate: format.rate, channels: 1, samples };
    }
    at += 8 + size + (size & 1);
  }
  throw new Error(`${path} has no data`);
}

function mulaw(sample) {
  const sign = sample < 0 ? 0x80 : 0;
  const magnitude = Math.min(Math.abs(sample), 32635) + 132;
  const exponent = Math.floor(Math.log2(magnitude)) - 7;
  return ~(sign | (exponent << 4) | ((magnitude >> (exponent + 3)) & 0x0f)) & 0xff;
}

function alaw(sample) {
  const magnitude = Math.min(Math.abs(sample), 32767) >> 4;
  const segment = magnitude < 16 ? 0 : Math.floor(Math.log2(magnitude)) - 3;
  const step = (magnitude >> Math.max(0, segment - 1)) & 0x0f;
  return ((sample < 0 ? 0 : 0x80) | (segment << 4) | step) ^ 0x55;
}

export function encode(samples, encoding) {
  const bytes = Buffer.alloc(samples.length * SAMPLE_BYTES[encoding]);
  samples.forEach((sample, i) => {
    if (encoding === 'pcm_s16le') bytes.writeInt16LE(sample, i * 2);
    else if (encoding === 'pcm_f32le') bytes.writeFloatLE(sample / 32768, i * 4);
    else bytes[i] = encoding === 'alaw' ? alaw(sample) : mulaw(sample);
  });
  return bytes;
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      pace: { type: 'string', default: 'live' },
      rate: { type: 'string' },
      encoding: { type: 'string', default: 'pcm_s16le' },
      rename: { type: 'string' },
      events: { type: 'string' },
      token: { type: 'string' },
      channels: { type: 'string' },
      cut: { type: 'string', default: '0' },
    },
  });
  const [url, path] = positionals;
  if (!url || !path) throw new Error('usage: node client.mjs URL FILE.wav [--pace live|replay] [--rate HZ] [--encoding NAME] ...');
  if (!(values.encoding in SAMPLE_BYTES)) throw new Error(`--encoding has to be one of ${Object.keys(SAMPLE_BYTES).join(', ')}`);
  const names = values.channels?.split(',') ?? null;
  const { rate, channels, samples } = readWav(path, { separate: Boolean(names) });
  if (values.rate && Number(values.rate) !== rate) throw new Error(`${path} has ${rate} samples a second, not ${values.rate}`);
  const live = values.pace === 'live';

  const session = new Session(url, {
    token: values.token,
    configuration: {
      audio: { encoding: values.encoding, sample_rate_hz: rate, channels },
      channel_names: names,
      pace: values.pace,
    },
  });
  const finished = follow(session, { eventsPath: values.events });
  finished.catch(() => {});
  const cuts = Number(values.cut);
  if (cuts) cutAtRandom(session, cuts);

  let renaming = Boolean(values.rename);
  let toldAt = Date.now();
  if (renaming) {
    const [speaker, name] = values.rename.split('=');
    session.on('event', (event) => {
      toldAt = Date.now();
      if (!renaming || event.speaker !== speaker) return;
      renaming = false;
      session.input({ type: 'speaker.rename', speaker, name });
    });
  }

  session.connect();
  await Promise.race([once(session, 'ready'), finished]);

  const frame = Math.round((rate * (live ? 40 : 100)) / 1000) * channels;
  const beginning = Date.now();
  for (let at = 0; at < samples.length && session.state !== 'done'; at += frame) {
    session.audio(encode(samples.subarray(at, at + frame), values.encoding));
    if (live) await sleep(Math.max(0, beginning + (session.samples / rate) * 1000 - Date.now()));
    else await session.drained();
  }
  // Only a speaker that was told can be renamed, and nothing can be after `session.close`.
  toldAt = Date.now();
  while (renaming && session.state !== 'done' && Date.now() - toldAt < RENAME_MS) await sleep(50);
  renaming = false;
  session.close();
  const { differences } = await finished;
  if (differences.length) process.exitCode = 1;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  main().catch((error) => {
    console.error(`client: ${error.message}`);
    process.exitCode = 1;
  });
}
