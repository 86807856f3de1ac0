// What every part of the page builds and repaints its elements with.

export const $ = (id) => document.getElementById(id);

/** An element with properties and children; strings become text, never markup. */
export function el(tag, props = {}, ...children) {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children.filter((child) => child != null));
  return node;
}
export const button = (label, onclick, props) => el('button', { type: 'button', className: 'quiet', onclick, ...props }, label);
export const clock = (at) => el('time', { dateTime: at, title: new Date(at).toLocaleString() }, new Date(at).toLocaleTimeString());

/** Tells those who listen instead of looking. */
export const announce = (text) => { $('announcer').textContent = text; };

export function complain(code, message) {
  const alert = el('div', { className: 'alert' }, el('span', {}, el('b', {}, code), ` – ${message}`));
  alert.append(button('Dismiss', () => alert.remove()));
  $('alerts').append(alert);
  if ($('alerts').children.length > 3) $('alerts').firstChild.remove();
  setTimeout(() => alert.remove(), 15_000);
}

/** Rebuilds a small part, only when what it shows, or the `more` that it shows it by, has changed. */
export function fill(parent, items, view, more) {
  const stamp = JSON.stringify([items, more]);
  if (parent.stamp !== stamp) parent.replaceChildren(...items.flatMap(view));
  parent.stamp = stamp;
}

/**
 * Rows of a long list: those that did not change stay as they are, and the focus stays on the row it was on. What a row
 * is known by is its item's `key`.
 */
export function fillRows(parent, items, view) {
  const old = new Map([...parent.children].map((row) => [row.key, row]));
  const focused = document.activeElement;
  let refocus;
  let place; // among the controls of its row
  const rows = items.map((item) => {
    const stamp = JSON.stringify(item);
    if (old.get(item.key)?.stamp === stamp) return old.get(item.key);
    const row = Object.assign(view(item), { key: item.key, stamp });
    if (old.get(item.key)?.contains(focused)) {
      refocus = row;
      place = [...old.get(item.key).querySelectorAll('a, button')].indexOf(focused);
    }
    return row;
  });
  const kept = new Set(rows);
  for (const row of old.values()) if (!kept.has(row)) row.remove();
  rows.forEach((row, i) => parent.children[i] !== row && parent.insertBefore(row, parent.children[i] ?? null));
  if (!refocus) return;
  const controls = [...refocus.querySelectorAll('a, button')];
  (controls.find((each) => each.textContent === focused.textContent) ?? controls[place] ?? refocus).focus();
}

/** Runs a form's action with its fields, instead of letting the browser submit it; one at a time. */
export function onSubmit(form, action) {
  let running = false;
  $(form).addEventListener('submit', async (event) => {
    event.preventDefault();
    if (running) return;
    running = true;
    try {
      await action(Object.fromEntries(new FormData($(form))), event.submitter);
    } catch (error) {
      complain(error.code ?? 'failed', error.message);
    }
    running = false;
  });
}

/** Enter submits the form of a text of several lines, Shift+Enter starts a new line. */
export function submitOnEnter(event) {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  event.target.form.requestSubmit();
}
