// The parts of the client that need no gateway.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pause } from '../dist/connection.js';
import { Emitter } from '../dist/emitter.js';
import { EventsClient } from '../dist/events.js';
import { JsonClient } from '../dist/json.js';
import { Log } from '../dist/log.js';
import { Signals } from '../dist/signals.js';

test('pauses are any time up to a bound that doubles and ends', () => {
  for (const [attempt, bound] of [[0, 500], [1, 1000], [5, 16_000], [6, 20_000], [5000, 20_000]]) {
    assert.equal(pause(attempt, 500, 20_000, () => 1), bound);
    assert.equal(pause(attempt, 500, 20_000, () => 0), 0);
  }
});

test('signals go when they are old or too many', () => {
  let now = 0;
  const signals = new Signals(2, 100, () => now);
  for (const each of ['a', 'b', 'c']) signals.push(each);
  assert.deepEqual(signals.drain(), ['b', 'c']);
  assert.deepEqual(signals.drain(), []);
  signals.push('old');
  now = 60;
  signals.push('young');
  now = 100;
  assert.deepEqual(signals.drain(), ['young']);
});

test('an entry is new once, by its place or by its id', () => {
  const log = new Log({ epoch: 2, offset: 5 });
  const entry = (topic, id, epoch, offset) => log.isNew({ topic, id, epoch, offset });
  assert.equal(entry('user', 'a', 2, 5), false, 'behind the place it was begun at');
  assert.equal(entry('user', 'b', 2, 9), true);
  assert.equal(entry('user', 'b', 3, 1), false, 'lost with its server, and appended again');
  assert.equal(entry('user', 'c', 3, 2), true);
  assert.equal(entry('broadcast', 'd', 1, 1), true, 'another log');
  assert.equal(entry('conversation', 'e', 1, 8), true);
  assert.equal(entry('conversation', 'f', 1, 3), true, 'of another conversation');
  assert.equal(entry('conversation', 'e', 1, 8), false);
  log.resume({ epoch: 2, offset: 1 });
  assert.equal(entry('user', 'b', 2, 9), false, 'again, and known');
  assert.equal(entry('user', 'g', 2, 10), true);
});

test('a handler that throws hinders no other, and one that left hears nothing', (t) => {
  class Told extends Emitter {
    say(name, event) { this.emit(name, event); }
  }
  const later = t.mock.method(globalThis, 'queueMicrotask', () => {});
  const told = new Told();
  const heard = [];
  told.on('x', () => { throw new Error('meant'); });
  const off = told.on('x', (event) => heard.push(event));
  told.say('x', 1);
  off();
  told.say('x', 2);
  assert.deepEqual(heard, [1]);
  assert.throws(later.mock.calls[0].arguments[0], /meant/, 'nobody swallows it');
});

class FakeSocket {
  static all = [];
  readyState = 1;
  sent = [];
  constructor(url) {
    this.url = String(url);
    FakeSocket.all.push(this);
  }
  send(text) { this.sent.push(JSON.parse(text)); }
  close() { this.readyState = 3; }
  hear(type, payload, more = {}) { this.onmessage({ data: JSON.stringify({ type, payload, ...more }) }); }
  end(code) { this.onclose({ code, reason: '' }); }
}

/** A client on a socket of ours whose session is open, and the means to let time pass. */
async function begun(t, options = {}) {
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'] });
  FakeSocket.all = [];
  const client = new JsonClient({ url: ['http://a', 'https://b'], token: () => 't', WebSocket: FakeSocket, ...options });
  t.after(() => client.close());
  const settled = async () => { for (let n = 0; n < 10; n += 1) await null; };
  const open = async () => {
    await settled();
    const socket = FakeSocket.all.at(-1);
    socket.onopen();
    socket.hear('connected', { resumed: { epoch: 1, offset: 1 }, limits: { frameBytes: 1000 } });
    return socket;
  };
  client.connect();
  const pass = async (ms) => {
    t.mock.timers.tick(ms);
    await settled();
  };
  return { client, open, pass, socket: await open() };
}

test('a client leaves a draining node when that said, and comes back then', async (t) => {
  for (const ends of [true, false]) {
    const { client, pass, socket } = await begun(t);
    socket.hear('server.draining', { reconnectAfterMs: 1500 });
    if (ends) socket.end(1012);
    assert.equal(client.state.phase, ends ? 'waiting' : 'open');
    await pass(1499);
    assert.equal(FakeSocket.all.length, 1);
    await pass(2);
    assert.equal(FakeSocket.all.length, 2);
    assert.match(FakeSocket.all[1].url, /^wss:\/\/b\/api\/ws\?after=1%3A1/);
    client.close();
    t.mock.timers.reset();
  }
});

test('a peer that is gone without a word is given up', async (t) => {
  const { client, pass, socket } = await begun(t);
  const states = [];
  client.on('state', (state) => states.push(state));
  for (let second = 0; second < 16; second += 1) await pass(1000);
  assert.equal(socket.sent.at(-1).type, 'ping');
  assert.deepEqual(states, []);
  for (let second = 0; second < 11; second += 1) await pass(1000);
  assert.deepEqual([states[0].phase, states[0].code], ['waiting', 0]);
});

test('what is refused for now is asked again, and what is not is not', async (t) => {
  const { client, pass, socket } = await begun(t);
  const asked = client.request('command.cancel', { commandId: 'x' }, { id: 'one' });
  const error = (code) => socket.hear('error', { code, message: 'm', retryAfterMs: 300 }, { replyTo: 'one' });
  const count = () => socket.sent.filter(({ id }) => id === 'one').length;
  error('unavailable');
  await pass(299);
  assert.equal(count(), 1);
  await pass(2);
  assert.equal(count(), 2);
  error('conflict');
  await assert.rejects(asked, { code: 'conflict' });
});

test('a session elsewhere, and a ban, are not answered by another try', async (t) => {
  for (const code of [4409, 4403, 1008]) {
    const { client, pass, socket } = await begun(t);
    socket.end(code);
    await pass(60_000);
    assert.deepEqual([client.state.phase, client.state.code, FakeSocket.all.length], ['closed', code, 1]);
    t.mock.timers.reset();
  }
});

test('a closed client asks for no more tokens', async (t) => {
  let give;
  const reasons = [];
  const token = (reason) => {
    reasons.push(reason);
    return reasons.length === 1 ? 't' : new Promise((resolve) => { give = resolve; });
  };
  const { client, pass, socket } = await begun(t, { token });
  socket.hear('auth.success', { userId: 'u', expiresAt: new Date(Date.now() + 10_000).toISOString() });
  await pass(8000);
  assert.deepEqual(reasons, ['connect', 'expiring']);
  client.close();
  give({ token: 't', expiresAt: Date.now() + 10_000 });
  await pass(0);
  await pass(60_000);
  assert.deepEqual(reasons, ['connect', 'expiring']);
});

test('a clock that is wrong does not ask for a token every second', async (t) => {
  let asked = 0;
  const { pass, socket } = await begun(t, { token: () => { asked += 1; return 't'; } });
  const success = () => socket.hear('auth.success', { userId: 'u', expiresAt: new Date(Date.now() - 3_600_000).toISOString() });
  success();
  for (let second = 0; second < 59; second += 1) {
    await pass(1000);
    socket.hear('pong', {});
  }
  assert.equal(asked, 1);
  await pass(1001);
  assert.equal(asked, 2);
});

test('what was subscribed to is asked for again until it is granted', async (t) => {
  const { client, open, pass, socket } = await begun(t);
  const wanted = (on) => on.sent.filter(({ type }) => type === 'subscribe');
  const answer = (on, refused) => on.hear('subscribed', { topics: [], filters: {}, refused }, { replyTo: wanted(on).at(-1).id });
  const subscribed = client.subscribe(['presence']);
  answer(socket, [{ topic: 'presence', code: 'unavailable' }]);
  await subscribed;
  socket.end(1006);
  await pass(20_000);
  const next = await open();
  assert.equal(wanted(next).length, 1);
  next.hear('error', { code: 'rate_limited', message: 'm', retryAfterMs: 100 }, { replyTo: wanted(next)[0].id });
  await pass(101);
  assert.equal(wanted(next).length, 2);
  answer(next, []);
});

/** A client of events on a mocked clock, its subscription in force. */
async function beganEvents(t) {
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'] });
  FakeSocket.all = [];
  const client = new EventsClient({ url: ['http://a', 'http://b'], token: () => 't', WebSocket: FakeSocket });
  t.after(() => client.close());
  const settled = async () => { for (let n = 0; n < 10; n += 1) await null; };
  const open = async () => {
    await settled();
    const socket = FakeSocket.all.at(-1);
    socket.tell = (type, data, id) => socket.onmessage({ data: JSON.stringify({ type, data, ts: 0, id }) });
    socket.onopen();
    return socket;
  };
  const pass = async (seconds) => {
    for (let second = 0; second < seconds; second += 1) {
      t.mock.timers.tick(1000);
      await settled();
    }
  };
  const topics = [{ kind: 'user', id: 'u' }];
  client.subscribe(topics);
  client.connect();
  const socket = await open();
  const { id, data } = socket.sent[0];
  assert.deepEqual(data, { topics });
  return { client, id, open, pass, socket, topics };
}

test('a client of events is open when its subscription is in force', async (t) => {
  const { client, id, socket } = await beganEvents(t);
  socket.tell('server.presence.batch', { users: [{ userId: 'u', status: 'online' }] });
  assert.equal(client.state.phase, 'connecting');
  socket.tell('server.presence.batch', { users: [] }, id);
  assert.equal(client.state.phase, 'open');
});

test('a node of events that is silent is asked for a sign, which is no news', async (t) => {
  const { client, id, pass, socket, topics } = await beganEvents(t);
  socket.tell('server.presence.batch', { users: [] }, id);
  const [news, frames] = [[], []];
  for (const name of ['server.presence.batch', 'server.system.error']) client.on(name, ({ data }) => news.push(data));
  client.on('frame', ({ type }) => frames.push(type));
  for (let turn = 1; turn <= 5; turn += 1) {
    await pass(14);
    assert.equal(socket.sent.length, turn, 'it was heard a moment ago');
    await pass(2);
    const ping = socket.sent[turn];
    assert.deepEqual([ping.type, ping.data], ['client.system.subscribe', { topics }]);
    assert.equal(socket.sent.length, turn + 1, 'asked once');
    await pass(8);
    socket.tell('server.system.error', { message: 'user u cannot be heard', code: 'not_found' }, ping.id);
    socket.tell('server.presence.batch', { users: [] }, ping.id);
    assert.equal(client.state.phase, 'open');
  }
  assert.deepEqual(news, []);
  assert.equal(frames.length, 10, 'every frame is shown to who wants every frame');
  // Whatever is said is a sign.
  await pass(10);
  socket.tell('server.messenger.typing', { conversationId: 'c', userId: 'v', isTyping: true });
  await pass(10);
  assert.equal(socket.sent.length, 6);
});

test('a client that is closed as soon as it is open stays closed', async (t) => {
  const { client, id, pass, socket } = await beganEvents(t);
  client.on('state', ({ phase }) => {
    if (phase === 'open') client.close();
  });
  const opened = FakeSocket.all.length;
  socket.tell('server.presence.batch', { users: [] }, id);
  await pass(60);
  assert.equal(client.state.phase, 'idle');
  assert.equal(FakeSocket.all.length, opened, 'it does not connect again');
});

test('a node of events that gives no sign is given up, and another one tried', async (t) => {
  const { client, id, open, pass, socket } = await beganEvents(t);
  const states = [];
  socket.tell('server.presence.batch', { users: [] }, id);
  client.on('state', (state) => states.push(state));
  await pass(16);
  assert.deepEqual(states, []);
  await pass(11);
  assert.deepEqual([states[0].phase, states[0].code], ['waiting', 0]);
  const pause = states[0].due - Date.now();
  assert.ok(pause <= 500, `any pause up to the first bound, not ${pause}`);
  await pass(1);
  assert.match(FakeSocket.all.at(-1).url, /^ws:\/\/b\//);
  const next = await open();
  next.tell('server.presence.batch', { users: [] }, next.sent[0].id);
  assert.equal(client.state.phase, 'open');
  client.close();
  const said = next.sent.length;
  await pass(60);
  assert.equal(next.sent.length, said, 'a closed client asks nobody');
});
