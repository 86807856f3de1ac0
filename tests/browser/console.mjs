// Drives the console page in a real browser against running gateways: two users, one per node.
//
//   node console.mjs <first node> <second node> [--kill-hook <shell command>] [--shots <folder>] [--chromium <path>]
//     [--only <regular expression>]
//
// The first node must allow WebSockets from the second one's origin and the other way round. The kill hook must end the
// first node without notice; the window that was on it has to carry on with the second. Screenshots go to the folder.
// `--only` leaves out the steps whose names do not match. Exits 0 only if all held.

import assert from 'node:assert/strict';
import { execSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';
import * as calls from './call.mjs';
import * as client from './client.mjs';
import * as conversations from './conversations.mjs';
import { WAIT_MS, Window, problems } from './window.mjs';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { 'kill-hook': { type: 'string' }, shots: { type: 'string' }, only: { type: 'string', default: '' }, chromium: { type: 'string', default: '/usr/bin/chromium' } },
});
const [first, second] = positionals;
assert(first && second, 'usage: console.mjs <first node> <second node> [--kill-hook <command>] [--chromium <path>]');

const FAIL_OVER_WAIT_MS = 40_000; // a dead node may be tried again, with growing pauses, before the living one
const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
  // So that two windows find each other on a machine without a network.
  '--allow-loopback-in-peer-connection', '--disable-features=WebRtcHideLocalIpsWithMdns',
];

/** A picture for people to look at, where a folder for them is named. */
async function shot(page, name) {
  if (options.shots) await page.screenshot({ path: `${options.shots}/${name}.png`, fullPage: true });
}

const commands = {
  async 'a command goes each way, and its sender follows it to its completion'({ alice, bob }) {
    await alice.addContact('Bob', bob.id);
    await alice.send('Bob', 'water the plants', 'task');
    await bob.sees('queue', 'water the plants', 'delivered');
    await alice.sees('sent', 'water the plants', 'delivered');
    await bob.press('queue', 'water the plants', 'Complete');
    await bob.sees('queue', 'water the plants', 'completed');
    await alice.sees('sent', 'water the plants', 'completed');
    await bob.press('queue', 'water the plants', 'Reply');
    await bob.page.keyboard.type('plants are wet');
    await bob.page.keyboard.press('Enter');
    await alice.sees('queue', 'plants are wet', 'delivered');
    await bob.sees('sent', 'plants are wet', 'delivered');
  },

  async 'what was sent to an absent user waits, unless it is cancelled'({ alice, bob }) {
    await bob.toggle('Disconnect', 'disconnected');
    await alice.send(bob.id, 'waits for you');
    await alice.send(bob.id, 'taken back');
    await alice.sees('sent', 'waits for you', 'pending');
    await alice.sees('sent', 'taken back', 'pending');
    await alice.press('sent', 'taken back', 'Cancel');
    await alice.sees('sent', 'taken back', 'cancelled');
    await bob.toggle('Connect', 'open');
    await bob.sees('queue', 'waits for you', 'delivered');
    await alice.sees('sent', 'waits for you', 'delivered');
    assert.equal(await bob.rows('queue', 'taken back').count(), 0, 'the cancelled command was not delivered');
  },

  async 'a broadcast reaches once whom its categories reach, and nobody who blocked one'({ alice, bob }) {
    await bob.prefers('mild', 'blocked');
    await alice.broadcast('for friends of the mild', 'mild');
    await alice.broadcast('for friends of both', 'general', 'mild');
    await alice.broadcast('for the general public', 'general');
    await alice.sees('queue', 'for friends of the mild', 'delivered');
    await alice.sees('queue', 'for friends of both', 'delivered');
    // The log of broadcasts is in order: who has the third was passed over with the others.
    await bob.sees('queue', 'for the general public', 'delivered');
    for (const missed of ['for friends of the mild', 'for friends of both']) {
      assert.equal(await bob.rows('queue', missed).count(), 0, `bob does not get "${missed}"`);
    }
    assert.match(await bob.rows('queue', 'for the general public').innerText(), /broadcast[^]*general/i);
    await alice.sees('sent', 'for friends of both', 'pending');
  },

  async 'one recipient completes a broadcast for themselves alone'({ alice, bob }) {
    await bob.press('queue', 'for the general public', 'Complete');
    await bob.sees('queue', 'for the general public', 'completed');
    await alice.sees('queue', 'for the general public', 'delivered');
    await alice.sees('sent', 'for the general public', 'pending');
  },

  async 'preferences are those of the user, on every window and after a reload'({ bob }) {
    const other = await bob.again();
    await other.shows('mild', 'blocked');
    await bob.prefers('mild', 'neutral');
    await other.shows('mild', 'neutral');
    // What was hidden is in the queue as long as it has not ended.
    await bob.sees('queue', 'for friends of the mild', 'pending');
    await other.prefers('general', 'allowed');
    await bob.shows('general', 'allowed');
    assert.equal(await bob.rows('queue', 'for friends of the mild').count(), 0, 'only what is allowed is shown');
    await bob.page.reload();
    await bob.isIn('open');
    await bob.shows('general', 'allowed');
    await bob.prefers('general', 'neutral');
    await other.page.close();
  },

  async 'sending to everybody needs the right to'({ alice }) {
    await alice.page.getByLabel('For', { exact: true }).selectOption('allcast');
    assert(await alice.page.getByLabel('To', { exact: true }).isHidden(), 'nobody in particular');
    await alice.page.getByLabel('Content').fill('hear, all of you');
    await alice.page.getByLabel('Content').press('Enter');
    await alice.sees('sent', 'hear, all of you', 'failed');
    assert.match(await alice.rows('sent', 'hear, all of you').innerText(), /forbidden/);
    await alice.page.getByLabel('For', { exact: true }).selectOption('user');
  },

  async 'the page fits a phone'({ alice }) {
    await alice.page.setViewportSize({ width: 360, height: 740 });
    const [wide, screen] = await alice.page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    await shot(alice.page, 'phone');
    await alice.page.setViewportSize({ width: 1440, height: 900 });
    await shot(alice.page, 'desk');
    assert(wide <= screen, `nothing is wider than the screen: ${wide} of ${screen}`);
    const unnamed = await alice.page.locator('input, select, textarea').evaluateAll((fields) =>
      fields.filter((field) => !field.labels?.length && !field.getAttribute('aria-label')).map((field) => field.outerHTML));
    assert.deepEqual(unnamed, [], 'every field has a label');
  },

  async 'a refusal is shown with its code'({ alice }) {
    await alice.send('00000000-0000-7000-8000-000000000000', 'to nobody');
    await alice.sees('sent', 'to nobody', 'failed');
    assert.match(await alice.rows('sent', 'to nobody').innerText(), /not_found/);
  },

  async 'a reloaded window is the same device with the same lists'({ alice }) {
    await alice.page.reload();
    await alice.isIn('open');
    await alice.sees('sent', 'water the plants', 'completed');
    await alice.sees('queue', 'plants are wet', 'delivered');
  },
};

// These come last: a node and a session are gone after them.
const ends = {
  async 'a window whose node is killed carries on with the next one'({ alice, bob }) {
    if (!options['kill-hook']) return 'skipped: no --kill-hook';
    const node = alice.page.locator('#facts dd').first();
    const before = await node.textContent();
    const kill = () => execSync(options['kill-hook'], { stdio: 'inherit', timeout: WAIT_MS });
    await conversations.survives({ alice, bob }, kill, FAIL_OVER_WAIT_MS);
    await alice.send(bob.id, 'sent in the storm');
    await bob.send(alice.id, 'are you still there?');
    await bob.sees('queue', 'sent in the storm', 'delivered', FAIL_OVER_WAIT_MS);
    await alice.isIn('open', FAIL_OVER_WAIT_MS);
    assert.notEqual(await node.textContent(), before, 'the window is on another node');
    await alice.sees('queue', 'are you still there?', 'delivered');
    await alice.sees('sent', 'sent in the storm', 'delivered');
    await bob.sees('sent', 'are you still there?', 'delivered');
    await alice.press('queue', 'are you still there?', 'Complete');
    await bob.sees('sent', 'are you still there?', 'completed');
    return undefined;
  },

  async 'a user who logs out is asked to log in again'({ bob }) {
    await bob.page.getByRole('button', { name: 'Log out' }).click();
    await bob.isIn('signed out');
    await bob.page.getByLabel('Username').waitFor();
  },
};

const browser = await chromium.launch({ executablePath: options.chromium, args: FLAGS });
let failed = false;
try {
  const alice = await Window.open(browser, 'alice', first, second);
  const bob = await Window.open(browser, 'bob', second, first);
  const carol = await Window.open(browser, 'carol', second, first);
  for (const window of [alice, bob, carol]) await window.register();
  const only = new RegExp(options.only);
  for (const [name, step] of Object.entries({ ...commands, ...conversations.steps, ...client.steps, ...calls.steps, ...ends })) {
    if (!only.test(name)) continue;
    const note = await step({ alice, bob, carol, shot });
    console.log(`ok – ${name}${note ? ` (${note})` : ''}`);
  }
  assert.deepEqual(problems, [], 'the page reported no errors');
} catch (error) {
  failed = true;
  console.error(`FAILED – ${error.stack}`, problems);
} finally {
  await browser.close();
}
process.exitCode = failed ? 1 : 0;
