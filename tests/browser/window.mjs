// One user in one window of the console, driven as people do: by what they read, press and type.

import assert from 'node:assert/strict';

export const WAIT_MS = 15_000;
const run = Date.now().toString(36);
export const problems = []; // what pages reported of themselves

/** One user in one window with a storage of its own. */
export class Window {
  static async open(browser, name, origin, otherNode) {
    const window = new Window();
    const context = await browser.newContext();
    Object.assign(window, { name: `${name}-${run}`, page: await context.newPage(), otherNode });
    window.page.setDefaultTimeout(WAIT_MS);
    window.page.on('pageerror', (error) => problems.push(`${name}: ${error.message}`));
    window.page.on('console', (message) => {
      if (/content security policy/i.test(message.text())) problems.push(`${name}: ${message.text()}`);
    });
    await window.page.goto(`${origin}/?nodes=${encodeURIComponent(otherNode)}`);
    return window;
  }

  /** One more window of the same user, on the same node. */
  async again() {
    const other = await Window.open(this.page.context().browser(), 'again', new URL(this.page.url()).origin, this.otherNode);
    other.name = this.name;
    await other.page.getByLabel('Username').fill(this.name);
    await other.page.getByLabel('Password').fill('a long password');
    await other.page.getByRole('button', { name: 'Log in' }).click();
    await other.isIn('open');
    return other;
  }

  async register() {
    await this.page.getByLabel('Username').fill(this.name);
    await this.page.getByLabel('Password').fill('a long password');
    await this.page.getByRole('button', { name: 'Register' }).click();
    await this.isIn('open');
    this.id = await this.page.locator('#my-id').textContent();
  }

  async isIn(phase, timeout = WAIT_MS) {
    await this.page.locator(`#state[data-phase="${phase}"]`).waitFor({ timeout });
  }

  async addContact(name, id) {
    await this.page.getByLabel('Name of the contact').fill(name);
    await this.page.getByLabel('User id of the contact').fill(id);
    await this.page.getByRole('button', { name: 'Add', exact: true }).click();
  }

  /** Types a command and sends it with the keyboard. */
  async send(to, content, type = 'message') {
    await this.page.getByLabel('To', { exact: true }).fill(to);
    await this.page.getByLabel('Type').selectOption(type);
    await this.page.getByLabel('Content').fill(content);
    await this.page.getByLabel('Content').press('Enter');
  }

  /** Sends a command to everybody whom these categories reach. */
  async broadcast(content, ...categories) {
    await this.page.getByLabel('For', { exact: true }).selectOption('category');
    for (const category of categories) await this.page.locator(`#categories input[value="${category}"]`).check();
    await this.page.getByLabel('Content').fill(content);
    await this.page.getByLabel('Content').press('Enter');
    for (const category of categories) await this.page.locator(`#categories input[value="${category}"]`).uncheck();
    await this.page.getByLabel('For', { exact: true }).selectOption('user');
  }

  preference(category) {
    return this.page.locator('#preferences').getByLabel(new RegExp(`^Preference for ${category}$`, 'i'));
  }

  async prefers(category, state) {
    await this.preference(category).selectOption(state);
    await this.shows(category, state);
  }

  /** Saved, not only asked for: nothing waits to be sent or answered. */
  async shows(category, state) {
    await this.page.waitForFunction(([tag, wanted]) => {
      const select = document.querySelector(`#preferences select[aria-label="Preference for ${tag}" i]`);
      const work = Object.entries(sessionStorage).find(([key]) => key.startsWith('tidegate.work.'));
      return select?.value === wanted && !JSON.parse(work[1]).requests.length;
    }, [category, state], { timeout: WAIT_MS });
  }

  rows(list, content) {
    return this.page.locator(`#${list} > li`, { hasText: content });
  }

  async sees(list, content, status, timeout = WAIT_MS) {
    const row = this.page.locator(`#${list} > li[data-status="${status}"]`, { hasText: content });
    await row.waitFor({ timeout }).catch(async () => {
      const shown = await this.rows(list, content).evaluateAll((rows) => rows.map((each) => each.dataset.status));
      const state = await this.page.locator('#state').innerText();
      throw new Error(`${this.name} should see "${content}" as ${status} in ${list}, sees [${shown}]; ${state}`);
    });
    assert.equal(await this.rows(list, content).count(), 1, `${this.name} sees "${content}" once in ${list}`);
  }

  async press(list, content, name) {
    await this.rows(list, content).getByRole('button', { name }).click();
  }

  async toggle(name, phase) {
    await this.page.locator('#toggle', { hasText: name }).click();
    await this.isIn(phase);
  }
}
