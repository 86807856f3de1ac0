// Plays scenario.json with @stomp/stompjs.
//
//   node client.mjs <world>      where <world> is JSON: {"nodes": [ws url, ...], "tokens": {name: token}, "words": {name: text}}
//
// Exits 0 only if all of it came about.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Client } from '@stomp/stompjs';
import { WebSocket } from 'ws';

const WAIT_MS = 20_000;
const world = JSON.parse(process.argv[2]);
const scenarios = JSON.parse(readFileSync(new URL('scenario.json', import.meta.url)));
let kept = {};
const had = {}; // by user and queue: what is known to have been taken may come again, under the same id

/** Replaces $name and $name.field by what they stand for. */
function fill(value) {
  if (Array.isArray(value)) return value.map(fill);
  if (value && typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, fill(each)]));
  if (typeof value !== 'string') return value;
  return value.replace(/\$(\w+)(?:\.(\w+))?/g, (all, name, field) => (field ? kept[name]?.[field] : world.words[name]) ?? all);
}

const fits = (wanted, found) => Object.entries(wanted).every(([key, value]) => JSON.stringify(found[key]) === JSON.stringify(value));

async function within(what, promise) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`waited too long for ${what}`)), WAIT_MS); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** One connection of a user. */
class User {
  constructor(name) { Object.assign(this, { name, inboxes: {}, waiting: {}, last: {}, modes: {}, transactions: {} }); }

  async connect(node) {
    this.client = new Client({
      webSocketFactory: () => new WebSocket(world.nodes[node], ['v12.stomp', 'v11.stomp', 'v10.stomp']),
      connectHeaders: { Authorization: `Bearer ${world.tokens[this.name]}`, device: 'stompjs' },
      heartbeatIncoming: 10_000, heartbeatOutgoing: 10_000, reconnectDelay: 0,
    });
    await within(`${this.name} to be connected`, new Promise((resolve, reject) => {
      this.client.onConnect = resolve;
      this.client.onStompError = (frame) => reject(new Error(`ERROR ${frame.headers.message} ${frame.body}`));
      this.client.onWebSocketError = reject;
      this.client.activate();
    }));
    assert.equal(this.client.connectedVersion, '1.2');
  }

  async subscribe({ id, to, ack = 'auto' }) {
    this.inboxes[id] = [];
    this.modes[id] = { ack, had: had[`${this.name} ${to}`] ??= new Set() };
    const receipt = this.receipt(`subscribe-${id}`);
    this.client.subscribe(to, (message) => {
      this.inboxes[id].push(message);
      this.waiting[id]?.();
    }, { id, ack, receipt: `subscribe-${id}` });
    await receipt;
  }

  receipt(id) {
    return within(`receipt ${id} of ${this.name}`, new Promise((resolve) => { this.client.watchForReceipt(id, resolve); }));
  }

  async send({ to, body, receipt, headers = {}, transaction }) {
    const taken = receipt && this.receipt(receipt);
    const message = { destination: to, body: JSON.stringify(body), headers: { 'content-type': 'application/json', ...headers, ...(receipt && { receipt }) } };
    if (transaction) message.headers.transaction = transaction;
    this.client.publish(message);
    await taken;
  }

  /** The next message of a subscription that is of this type; others are passed over. */
  async expect({ on, type, body, keep }) {
    await within(`${JSON.stringify(body)} on ${on} of ${this.name}`, (async () => {
      for (;;) {
        const message = this.inboxes[on].shift();
        if (!message) {
          await new Promise((resolve) => { this.waiting[on] = resolve; });
          continue;
        }
        const found = JSON.parse(message.body);
        if (type ? message.headers.type !== type : found.senderType === 'SYSTEM') continue;
        const mode = this.modes[on];
        if (mode.had.has(message.headers['message-id'])) continue;
        assert(fits(body, found), `${this.name} expects ${JSON.stringify(body)} on ${on}, got ${message.body}`);
        this.last[on] = message;
        if (mode.ack === 'auto') mode.had.add(message.headers['message-id']);
        if (keep) kept[keep] = found;
        return;
      }
    })());
  }

  ack({ on }) {
    this.last[on].ack();
    this.modes[on].had.add(this.last[on].headers['message-id']);
  }

  nack({ on }) { this.last[on].nack(); }
  begin({ id }) { this.transactions[id] = this.client.begin(id); }
  commit({ id }) { this.transactions[id].commit(); }
  abort({ id }) { this.transactions[id].abort(); }

  async disconnect() { await within(`${this.name} to leave`, this.client.deactivate()); }
}

for (const { name, steps } of scenarios) {
  const users = {};
  kept = {};
  for (const step of steps.map((each) => each)) {
    const { do: what, who, ...rest } = step;
    if (what === 'connect') {
      users[who] = new User(who);
      await users[who].connect(rest.node);
    } else {
      await users[who][what](fill(rest));
    }
  }
  console.log(`ok: ${name}`);
}
process.exit(0);
