// The client against real gateways. TIDEGATE_WORLD is JSON: {"nodes": [url], "pids": [pid of each], "users": [{id,
// token}]}; the last test kills a node.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { EventsClient, JsonClient } from '../dist/index.js';

const world = JSON.parse(process.env.TIDEGATE_WORLD ?? 'null');
const options = { skip: world ? false : 'no gateways', timeout: 60_000 };
const open = new Set();
after(() => { for (const client of open) client.close(); });

const [ann, bob] = world?.users ?? [];
const [first, second] = world?.nodes ?? [];
let devices = 0;

function client(Kind, user, more = {}) {
  const made = new Kind({ url: first, token: () => user.token, device: `test-${(devices += 1)}`, ...more });
  open.add(made);
  return made;
}

async function opened(made) {
  if (made.state.phase !== 'open') {
    const isOpen = new Promise((resolve) => {
      const off = made.on('state', ({ phase }) => {
        if (phase !== 'open') return;
        off();
        resolve();
      });
    });
    if (made.state.phase === 'idle') made.connect();
    await isOpen;
  }
  return made;
}

const phase = (made, wanted) => new Promise((resolve) => {
  const off = made.on('state', (state) => {
    if (state.phase !== wanted) return;
    off();
    resolve(state);
  });
});

/** Resolves with the events once there are so many. */
function gather(made, name, count, into = []) {
  return new Promise((resolve) => {
    const off = made.on(name, (event) => {
      into.push(event);
      if (into.length < count) return;
      off();
      resolve(into);
    });
  });
}

async function rest(user, method, path, body, node = first) {
  const headers = { Authorization: `Bearer ${user.token}`, ...(body && { 'Content-Type': 'application/json' }) };
  const answer = await fetch(`${node}/api/v1${path}`, { method, headers, ...(body && { body: JSON.stringify(body) }) });
  assert(answer.ok, `${method} ${path}: ${answer.status}`);
  return answer.status === 204 ? undefined : answer.json();
}

const command = (content, target = bob) => ({ commandType: 'task', content, targetUser: target.id });
const group = (...users) =>
  rest(users[0], 'POST', '/conversations', { type: 'GROUP', participantIds: users.slice(1).map(({ id }) => id) });

test('a command goes from one user to another, and its sender follows it', options, async () => {
  const [from, to] = await Promise.all([opened(client(JsonClient, ann)), opened(client(JsonClient, bob, { url: second }))]);
  const arrives = to.once('command.new');
  const { commandId } = await from.request('command.create', command('plain'));
  const { payload } = await arrives;
  assert.equal(payload.commandId, commandId);
  const done = new Promise((resolve) => {
    from.on('command.status', ({ payload: told }) => told.commandId === commandId && told.status === 'completed' && resolve());
  });
  await to.request('command.complete', { commandId });
  await done;
  for (const each of [from, to]) each.close();
});

test('a refusal rejects with its code', options, async () => {
  const made = await opened(client(JsonClient, ann));
  const nobody = { ...bob, id: '00000000-0000-7000-8000-000000000000' };
  await assert.rejects(made.request('command.create', command('x', nobody)), { name: 'RequestError', code: 'not_found' });
  const large = command('x'.repeat(100_000));
  await assert.rejects(made.request('command.create', large), { code: 'too_large' });
  assert.equal((await made.request('ping', {})) !== undefined, true, 'the socket lives');
  made.close();
});

test('what is asked without a connection is asked once there is one', options, async () => {
  const made = client(JsonClient, ann);
  const asked = made.request('command.create', command('early'));
  made.connect();
  assert.equal((await asked).status, 'pending');
  made.close();
  await assert.rejects(async () => {
    const late = made.request('ping', {});
    made.close();
    await late;
  }, { code: 'closed' });
});

test('a subscription outlives its connection, and signals pass', options, async () => {
  const { id } = await group(ann, bob);
  const [from, to] = await Promise.all([opened(client(JsonClient, ann)), opened(client(JsonClient, bob, { url: second }))]);
  const filters = { conversation_id: id };
  const { topics, refused } = await to.subscribe(['typing', 'nonsense'], filters);
  assert.deepEqual(topics, ['typing']);
  assert.deepEqual(refused.map(({ topic }) => topic), ['nonsense']);
  const typed = to.once('typing.start');
  from.signal('typing.start', { conversationId: id });
  assert.equal((await typed).payload.userId, ann.id);
  to.close();
  await opened(to);
  await to.request('ping', {}); // answered behind the subscription
  const stopped = to.once('typing.stop');
  from.signal('typing.stop', { conversationId: id });
  assert.equal((await stopped).payload.conversationId, id);
  for (const each of [from, to]) each.close();
});

test('a subscription whose right was lost is not repeated', options, async () => {
  const { id } = await group(ann, bob);
  const said = [];
  class Overheard extends WebSocket {
    send(text) {
      said.push(JSON.parse(text));
      super.send(text);
    }
  }
  const made = await opened(client(JsonClient, bob, { WebSocket: Overheard }));
  const filters = { conversation_id: id };
  await made.subscribe(['conversation', 'typing'], filters);
  await made.subscribe(['presence']);
  const names = new Set(['conversation', 'typing']);
  const lost = new Promise((resolve) => {
    made.on('unsubscribed', ({ payload }) => {
      for (const topic of payload.topics) names.delete(topic);
      if (!names.size) resolve();
    });
  });
  await rest(ann, 'DELETE', `/conversations/${id}/participants/${bob.id}`);
  await lost;
  made.close();
  said.length = 0;
  await opened(made);
  await made.request('ping', {});
  const again = said.filter(({ type }) => type === 'subscribe').map(({ payload }) => payload);
  assert.deepEqual(again, [{ topics: ['presence'] }]);
  made.close();
});

test('a token is renewed on the open session before it runs out', options, async () => {
  const reasons = [];
  const token = (reason) => {
    reasons.push(reason);
    return reason === 'connect' ? { token: ann.token, expiresAt: Date.now() + 2000 } : ann.token;
  };
  const made = client(JsonClient, ann, { token });
  const twice = new Promise((resolve) => {
    let successes = 0;
    made.on('frame', ({ type }) => {
      if (type === 'auth.success') successes += 1;
      if (successes === 2) resolve();
    });
  });
  await opened(made);
  const { sessionId } = made.session;
  await twice;
  assert.deepEqual(reasons, ['connect', 'expiring']);
  await made.request('ping', {});
  assert.equal(made.session.sessionId, sessionId, 'the same session goes on');
  made.close();
});

test('a refused token is asked for once more, and then it is a matter for people', options, async () => {
  for (const Kind of [JsonClient, EventsClient]) {
    const reasons = [];
    const made = client(Kind, ann, { token: (reason) => { reasons.push(reason); return 'a.b.c'; } });
    const closed = phase(made, 'closed');
    made.connect();
    assert.equal((await closed).code, 4401);
    assert.deepEqual(reasons, ['connect', 'refused']);
  }
});

test('front ends hear signals and read by REST', options, async () => {
  const { id } = await group(ann, bob);
  const listening = client(EventsClient, bob);
  listening.subscribe([{ kind: 'conversation', id }]);
  const listener = await opened(listening);
  const said = listener.once('server.messenger.message_new');
  const typed = listener.once('server.messenger.typing');
  const from = await opened(client(JsonClient, ann, { url: second }));
  // It was in force when the client was open.
  from.signal('typing.start', { conversationId: id });
  const { data } = await typed;
  assert.equal(data.userId, ann.id);
  const { messageId } = await from.request('chat.message', { conversationId: id, message: 'hello' });
  assert.equal((await said).data.messageId, messageId);
  const { items } = await rest(bob, 'GET', `/conversations/${id}/messages`);
  assert.equal(items[0].content, 'hello');
  for (const each of [listener, from]) each.close();
});

test('a node is killed: nothing is lost, nothing comes twice', options, async () => {
  const most = 200;
  const receiver = await opened(client(JsonClient, bob, { url: [first, second] }));
  const sender = await opened(client(JsonClient, ann, { url: [first, second] }));
  const ids = new Map();
  const wanted = new Set(Array.from({ length: most }, (_, n) => `n${n}`));
  const all = new Promise((resolve) => {
    receiver.on('command.new', ({ payload: { content, commandId } }) => {
      if (!wanted.has(content)) return;
      ids.set(content, [...(ids.get(content) ?? []), commandId]);
      if (ids.size === most) resolve();
    });
  });
  const moved = [phase(receiver, 'waiting'), phase(sender, 'waiting')];
  const accepted = [];
  for (const content of wanted) {
    accepted.push(sender.request('command.create', command(content)));
    if (content === 'n80') process.kill(world.pids[0], 'SIGKILL');
    // Not all in the moment before the node dies.
    if (accepted.length % 10 === 0) await Promise.race([accepted.at(-1), ...moved]);
  }
  await Promise.all(moved);
  const promised = await Promise.all(accepted);
  await all;
  await receiver.request('ping', {});
  for (const [n, { commandId }] of promised.entries()) {
    assert.deepEqual(ids.get(`n${n}`), [commandId], `n${n} came once, as it was promised`);
  }
  assert.equal(receiver.state.url, second);
  for (const each of [receiver, sender]) each.close();
});
