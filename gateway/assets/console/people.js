// Contacts: names for user ids, known to all windows of this browser.

import { keep, recall } from './storage.js';

export const isUserId = (text) => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text);
let people = {}; // name -> user id

export function reload() {
  people = recall(localStorage, 'people', {});
}
reload();

export function remember(name, id) {
  const others = Object.entries(recall(localStorage, 'people', {})).filter(([, known]) => known !== id);
  people = { ...Object.fromEntries(others), [name]: id };
  keep(localStorage, 'people', people);
}

export const names = () => Object.keys(people);
export const idOf = (name) => people[name];
export const nameOf = (id) => names().find((name) => people[name] === id);

/** The user id meant by a contact's name or by an id; undefined if it is neither. */
export function resolve(text) {
  const name = names().find((known) => known.toLowerCase() === text.toLowerCase());
  return people[name] ?? (isUserId(text) ? text.toLowerCase() : undefined);
}
