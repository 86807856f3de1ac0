// The parts of the client that need no gateway.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pause } from '../dist/connection.js';
import { Emitter } from '../dist/emitter.js';
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
