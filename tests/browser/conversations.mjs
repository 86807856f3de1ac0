// What people do in conversations, as steps of console.mjs.

import assert from 'node:assert/strict';
import { WAIT_MS, Window } from './window.mjs';

const shows = (locator, timeout = WAIT_MS) => locator.waitFor({ timeout });

/** The conversation view of a window. */
class Talk {
  constructor(window) {
    Object.assign(this, { window, page: window.page, rows: window.page.locator('#message-rows > li') });
  }

  async toList() {
    await this.page.goto(`${this.page.url().split('#')[0]}#conversations`);
    await shows(this.page.locator('#talk'));
  }

  async showBeginning() {
    if (!(await this.page.locator('#begin').evaluate((each) => each.open))) await this.page.getByText('New conversation').click();
  }

  /** Where the first message to a user will go. */
  async begin(userId) {
    await this.toList();
    await this.showBeginning();
    await this.page.getByLabel('With whom to talk').fill(userId);
    await this.page.getByLabel('With whom to talk').press('Enter');
    await shows(this.page.getByLabel('Message', { exact: true }));
  }

  /** Ticks contacts where there are any; here, everybody is named by id. */
  async makeGroup(title, ...userIds) {
    await this.toList();
    await this.showBeginning();
    await this.page.getByLabel('Title of the group').fill(title);
    await this.page.getByLabel('Further participants').fill(userIds.join(', '));
    await this.page.getByRole('button', { name: 'Make group' }).click();
    await shows(this.page.getByRole('heading', { name: title }));
  }

  listed = (name) => this.page.locator('#conversations > li').filter({ has: this.page.locator('b', { hasText: name }) });

  async open(name) {
    await this.toList();
    await this.listed(name).getByRole('link').click();
    await shows(this.page.getByRole('heading', { name }));
  }

  /** The number that the list shows beside a conversation; 0 for none. */
  async hasUnread(name, count) {
    await this.page.waitForFunction(([wanted, number]) => {
      const row = [...document.querySelectorAll('#conversations > li')].find((each) => each.querySelector('b').textContent === wanted);
      return row && Number.parseInt(row.querySelector('.count')?.textContent ?? '0', 10) === number;
    }, [name, count], { timeout: WAIT_MS }).catch(async () => {
      const list = await this.page.locator('#conversations').innerText();
      throw new Error(`${this.window.name} should see ${count} unread of ${name}, sees: ${list}`);
    });
  }

  async say(text) {
    await this.page.getByLabel('Message', { exact: true }).fill(text);
    await this.page.getByLabel('Message', { exact: true }).press('Enter');
  }

  /** A message is there, once, and has come as far as that. */
  async hears(text, status, timeout = WAIT_MS) {
    const which = status ? `[data-status="${status}"]` : '';
    await shows(this.page.locator(`#message-rows > li${which}`, { hasText: text }), timeout).catch(async () => {
      const said = await this.rows.evaluateAll((rows) => rows.map((row) => `${row.textContent} ${row.dataset.status ?? ''}`));
      throw new Error(`${this.window.name} should see "${text}" ${status ?? ''}, sees [${said.slice(-5).join(' | ')}]`);
    });
    assert.equal(await this.rows.filter({ hasText: text }).count(), 1, `${this.window.name} sees "${text}" once`);
  }

  /** Told to have stopped, that is: it lapses later. */
  async isNotToldOfTyping() {
    await this.page.waitForFunction(() => !document.querySelector('#typing').textContent, undefined, { timeout: 4000 });
  }

  /** Nothing is to be sent any more. */
  async isQuiet() {
    await this.page.waitForFunction(() => !document.querySelector('#unsent-rows').children.length, undefined, { timeout: WAIT_MS });
  }

  async press(text, name) {
    await this.rows.filter({ hasText: text }).hover();
    await this.rows.filter({ hasText: text }).getByRole('button', { name }).click();
  }

  async showPanel() {
    if (await this.page.locator('#panel').isHidden()) await this.page.getByRole('button', { name: 'Participants' }).click();
  }

  /** Presses a button of the panel. */
  async manage(name) {
    await this.showPanel();
    await this.page.locator('#panel').getByRole('button', { name, exact: true }).click();
  }
}

const numbers = (texts) => texts.map((text) => Number(text.match(/line (\d+)/)?.[1])).filter(Boolean);

export const steps = {
  async 'what is known of a conversation has no holes, and counts right'({ alice }) {
    const seen = await alice.page.evaluate(async () => {
      const { Conversation } = await import('./conversation.js');
      const message = (n, senderId = 'other') => ({ id: `m${n}`, senderId, senderType: 'USER', status: 'SENT', content: `${n}` });
      const page = (...numbers) => ({ items: numbers.map((n) => message(n)), nextCursor: 'more' });
      const participants = [{ userId: 'me' }, { userId: 'other', lastReadMessageId: 'm19' }];
      const facts = (unreadCount, upTo) => ({ type: 'GROUP', participants, participantCount: 2, unreadCount, lastMessage: message(upTo) });
      const ids = (conversation) => conversation.messages.map(({ id }) => id).join(' ');
      const it = new Conversation('c', 'me');
      const seen = {};
      it.learn(facts(7, 20));
      it.hear(message(21));
      it.hear(message(21));
      seen.countedAndHeard = it.unread();
      it.takePage(page(21, 20), undefined);
      it.takePage(page(19, 18), 'm20');
      it.takePage(page(12, 11), 'm13'); // asked for by what is no longer the first
      it.hear(message(15)); // again, from before what is here
      seen.withoutHoles = ids(it);
      it.readUpTo('m20');
      seen.behindThePointer = it.unread();
      it.hear(message(22, 'me'));
      seen.ownDoNotCount = it.unread();
      it.learn(facts(9, 30), true); // anew, after some were missed
      it.hear(message(31));
      seen.missed = [it.unread(), ids(it)];
      it.takePage(page(33, 32, 31, 30), undefined);
      it.takePage(page(41, 40), undefined);
      seen.apart = ids(it);
      it.change('m41', { content: 'new', editedAt: '2' });
      it.change('m41', { content: 'old', editedAt: '1' });
      it.change('m40', { content: '', isDeleted: true });
      it.put({ ...message(40), content: 'overtaken' });
      seen.texts = it.messages.map(({ content }) => content);
      const own = [message(19, 'me'), message(42, 'me')].map((each) => it.statusOf(each));
      it.receive('delivered', { userId: 'other', messageIds: ['m42', 'm18'] });
      seen.statuses = [...own, it.statusOf(message(42, 'me'))];
      return seen;
    });
    assert.deepEqual(seen, {
      countedAndHeard: 8,
      withoutHoles: 'm18 m19 m20 m21',
      behindThePointer: 1,
      ownDoNotCount: 1,
      missed: [10, 'm31'],
      apart: 'm40 m41',
      texts: ['', 'new'],
      statuses: ['READ', 'SENT', 'DELIVERED'],
    });
  },

  async 'a first message makes a conversation and shows up at the other'({ alice, bob }) {
    const [hers, his] = [new Talk(alice), new Talk(bob)];
    await his.toList();
    await hers.begin(bob.id);
    await hers.say('good morning');
    await hers.hears('good morning', 'DELIVERED');
    await his.hasUnread(alice.name, 1);
    await his.open(alice.name);
    await his.hears('good morning');
    await hers.hears('good morning', 'READ');
    await his.say('and to you');
    await hers.hears('and to you');
    await his.hears('and to you', 'READ');
    await hers.begin(bob.id);
    await hers.hears('and to you');
    assert.equal(await hers.page.locator('#conversations > li').count(), 1, 'there is one conversation of two people');
  },

  async 'the number of unread messages rises and falls, in every window'({ alice, bob }) {
    const [hers, his] = [new Talk(alice), new Talk(bob)];
    const other = await bob.again();
    const elsewhere = new Talk(other);
    await his.toList();
    await elsewhere.toList();
    await elsewhere.hasUnread(alice.name, 0);
    await hers.say('first of two');
    await his.hasUnread(alice.name, 1);
    await hers.say('second of two');
    await his.hasUnread(alice.name, 2);
    await elsewhere.hasUnread(alice.name, 2);
    assert.equal(await his.page.locator('#unread-count').innerText(), '1', 'one conversation has something unread');
    await his.open(alice.name);
    await his.hasUnread(alice.name, 0);
    await elsewhere.hasUnread(alice.name, 0);
    await hers.hears('second of two', 'READ');
    await other.page.context().close();
  },

  async 'that somebody is typing is seen until they have sent it'({ alice, bob }) {
    const [hers, his] = [new Talk(alice), new Talk(bob)];
    await hers.page.getByLabel('Message', { exact: true }).pressSequentially('let me think');
    await shows(his.page.locator('#typing', { hasText: `${alice.name} is typing` }));
    await hers.page.keyboard.press('Enter');
    await his.hears('let me think');
    await his.isNotToldOfTyping();
    await hers.page.getByLabel('Message', { exact: true }).pressSequentially('or');
    await shows(his.page.locator('#typing', { hasText: `${alice.name} is typing` }));
    await hers.page.getByLabel('Message', { exact: true }).fill('');
    await his.isNotToldOfTyping();
  },

  async 'an own message is shown once, though it may come before its acceptance'({ alice, bob }) {
    const other = await alice.again();
    const [hers, his] = [new Talk(other), new Talk(bob)];
    let release;
    const isReleased = new Promise((done) => { release = done; });
    await other.page.routeWebSocket(/\/api\/ws/, (socket) => {
      socket.connectToServer().onMessage(async (text) => {
        if (JSON.parse(text).type === 'chat.accepted') await isReleased;
        socket.send(text);
      });
    });
    await other.page.reload();
    await other.isIn('open');
    await hers.open(bob.name);
    await hers.say('only once');
    await his.hears('only once');
    await his.say('I see it once');
    await hers.hears('I see it once');
    assert.equal(await hers.page.locator('#messages li', { hasText: 'only once' }).count(), 1, 'it is not there twice');
    release();
    await hers.isQuiet();
    await hers.hears('only once');
    await other.page.context().close();
  },

  async 'messages are text, whatever they hold'({ alice, bob }) {
    await new Talk(alice).say('<b>bold</b> & plain <img src=x>');
    await new Talk(bob).hears('bold');
    const inside = await new Talk(bob).rows.filter({ hasText: 'bold' }).locator('.content > *').count();
    assert.equal(inside, 0, 'nothing of it became an element');
  },

  async 'own messages can be changed and deleted'({ alice, bob }) {
    const [hers, his] = [new Talk(alice), new Talk(bob)];
    await hers.say('I like tee');
    await his.hears('I like tee');
    await hers.press('I like tee', 'Edit');
    await hers.say('I like tea');
    await his.hears('I like tea');
    await hers.hears('I like tea');
    await shows(his.rows.filter({ hasText: 'I like tea' }).getByText('edited', { exact: true }));
    assert.equal(await his.rows.filter({ hasText: 'tee' }).count(), 0, 'the old text is gone');
    assert.equal(await his.rows.filter({ hasText: 'I like tea' }).getByRole('button').count(), 0, 'bob cannot change what alice wrote');
    // By the keyboard: the last own message is one key away.
    await hers.page.getByLabel('Message', { exact: true }).press('ArrowUp');
    await hers.say('I love tea');
    await his.hears('I love tea');
    await hers.press('I love tea', 'Delete');
    await hers.press('I love tea', 'Really delete?');
    await his.hears('This message was deleted.');
    await hers.hears('This message was deleted.');
    assert.equal(await his.rows.filter({ hasText: 'I love tea' }).count(), 0, 'a deleted text is gone');
  },

  async 'what was said is read back to its beginning, in order, and the place stays'({ alice, bob }) {
    const [hers, his] = [new Talk(alice), new Talk(bob)];
    for (let line = 1; line <= 60; line += 1) await hers.say(`line ${line}.`);
    await his.hears('line 60.');
    await hers.isQuiet();
    const fresh = await bob.again();
    const later = new Talk(fresh);
    await later.open(alice.name);
    await later.hears('line 60.');
    assert.equal(await later.rows.filter({ hasText: 'good morning' }).count(), 0, 'not everything is read at once');
    const box = later.page.locator('#messages');
    const place = (text) => later.rows.filter({ hasText: text }).evaluate((row) => row.getBoundingClientRect().top);
    const [top] = numbers(await later.rows.allInnerTexts());
    let measured;
    const isMeasured = new Promise((done) => { measured = done; });
    await later.page.route('**/messages?*', (route) => isMeasured.then(() => route.continue()));
    await box.evaluate((each) => { each.scrollTop = 250; });
    const before = await place(`line ${top + 2}.`);
    measured();
    await later.hears('line 1.');
    assert(Math.abs((await place(`line ${top + 2}.`)) - before) < 3, 'what is looked at stays where it is');
    await box.evaluate((each) => { each.scrollTop = 0; });
    await later.hears('good morning');
    await shows(later.rows.filter({ hasText: 'and to you' }));
    assert.deepEqual(numbers(await later.rows.allInnerTexts()), Array.from({ length: 60 }, (_, i) => i + 1), 'each line once, in order');
    assert(await later.page.locator('#older').isHidden(), 'there is nothing older');
    await hers.say('while you read');
    await later.hears('while you read');
    assert.equal(await box.evaluate((each) => each.scrollTop), 0, 'a new message does not move who reads old ones');
    await later.page.getByRole('button', { name: 'New messages' }).click();
    await later.hasUnread(alice.name, 0);
    await fresh.page.context().close();
  },

  async 'a group talks, is renamed, and whoever is removed sees no more'({ alice, bob, carol }) {
    const [hers, his, carols] = [new Talk(alice), new Talk(bob), new Talk(carol)];
    await carols.toList();
    await hers.makeGroup('garden', bob.id, carol.id);
    await hers.say('who waters today?');
    await carols.hasUnread('garden', 1);
    await carols.open('garden');
    await carols.say('I do');
    await his.open('garden');
    await his.hears('I do');
    await hers.hears('who waters today?', 'READ');
    await hers.showPanel();
    await hers.page.getByLabel('New title').fill(`greenhouse${', and whatever else is to be looked after'.repeat(3)}`);
    await hers.manage('Rename');
    await shows(his.page.getByRole('heading', { name: 'greenhouse' }));
    await shows(carols.listed('greenhouse'));
    await hers.manage(`Remove ${carol.name}`);
    await shows(carols.page.getByText('You do not take part in it'));
    await hers.say('not for everybody');
    await his.hears('not for everybody');
    assert.equal(await carols.page.getByText('not for everybody').count(), 0, 'carol does not hear what is said behind her');
    await carols.page.reload();
    await carol.isIn('open');
    await carols.toList();
    await shows(carols.page.getByText('You take part in no conversation.'));
    await hers.page.getByLabel('Whom to add').fill(carol.id);
    await hers.manage('Add participant');
    await carols.open('greenhouse');
    await hers.say('welcome back');
    await carols.hears('welcome back');
    await carols.manage('Leave');
    await shows(carols.page.getByText('You do not take part in it'));
  },

  async 'an archived conversation is read, not written, until it is taken back'({ alice, bob }) {
    const [hers, his] = [new Talk(alice), new Talk(bob)];
    await hers.manage('Archive');
    await shows(his.page.getByText('it can be read, and nothing can be written'));
    assert(await his.page.getByLabel('Message', { exact: true }).isHidden(), 'there is nowhere to write');
    assert.match(await his.listed('greenhouse').innerText(), /archived/);
    await hers.manage('Unarchive');
    await shows(his.page.getByLabel('Message', { exact: true }));
    await his.say('back to work');
    await hers.hears('back to work');
  },

  async 'conversations fit a phone, too'({ alice, bob, shot }) {
    const hers = new Talk(alice);
    await hers.open(bob.name);
    await shot(hers.page, 'talk-desk');
    await hers.page.emulateMedia({ colorScheme: 'dark' });
    await hers.rows.last().hover();
    await shot(hers.page, 'talk-desk-dark');
    await hers.page.emulateMedia({ colorScheme: 'light' });
    await hers.page.setViewportSize({ width: 360, height: 740 });
    for (const part of ['thread', 'panel', 'list', 'beginning']) {
      if (part === 'panel') await hers.showPanel();
      if (part === 'list') await hers.page.getByRole('link', { name: 'Back to the list' }).click();
      if (part === 'beginning') await hers.showBeginning();
      await shot(hers.page, `talk-phone-${part}`);
      const [wide, screen] = await hers.page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      assert(wide <= screen, `nothing of the ${part} is wider than the screen: ${wide} of ${screen}`);
      const cut = await hers.page.locator('#talk :is(a, button, input, textarea, .bubble)').evaluateAll((parts) =>
        parts.filter((each) => each.getBoundingClientRect().right > innerWidth).map((each) => each.textContent));
      assert.deepEqual(cut, [], `nothing of the ${part} goes over the edge`);
    }
    assert(await hers.page.locator('#thread').isHidden(), 'one thing at a time');
    await hers.page.setViewportSize({ width: 1280, height: 800 });
  },

  async 'a message that is refused says why and can be sent again'({ alice, bob }) {
    const [hers, his] = [new Talk(alice), new Talk(bob)];
    await hers.begin('00000000-0000-7000-8000-000000000000');
    await hers.say('is anybody there?');
    await shows(hers.page.locator('#unsent-rows [data-status="failed"]', { hasText: 'not_found' }));
    await hers.page.getByRole('button', { name: 'Discard' }).click();
    await hers.isQuiet();
    await hers.open(bob.name);
    await his.open(alice.name);
  },
};

/** Once the node of the window is gone: what was written in the meantime arrives once, in order, and all goes on. */
export async function survives({ alice, bob }, kill, timeout) {
  const [hers, his] = [new Talk(alice), new Talk(bob)];
  await hers.open(bob.name);
  await his.open(alice.name);
  await kill();
  await hers.say('said in the storm');
  await hers.say('and once more');
  await his.say('can you hear me?');
  await his.hears('and once more', undefined, timeout);
  await his.hears('said in the storm');
  await hers.hears('can you hear me?', undefined, timeout);
  await hers.isQuiet();
  await hers.hears('and once more', 'READ');
  await his.say('all is well');
  await hers.hears('all is well');
  await hers.page.goto(`${hers.page.url().split('#')[0]}#commands`);
  await his.page.goto(`${his.page.url().split('#')[0]}#commands`);
}
