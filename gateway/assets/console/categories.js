// What commands may be tagged with, and which of it this user wants to see. Knows neither the socket nor the page around:
// it is told what came in, and paints into what it is given.

let categories = []; // {name, title, retiredAt?}, by name
let chosen = { blockedCategories: [], allowedCategories: [] };
const LABELS = { neutral: 'Neutral', allowed: 'Allowed', blocked: 'Blocked' };

export const known = () => categories;
export const learn = (items) => { categories = items; };
export const choices = () => chosen;
export const choose = ({ blockedCategories = [], allowedCategories = [] }) => {
  chosen = { blockedCategories, allowedCategories };
};
export function forget() {
  categories = [];
  choose({});
}

/** What people read; of a tag this page has not heard of, the tag. */
export const titleOf = (tag) => categories.find(({ name }) => name === tag)?.title ?? tag;

/** The rule of the protocol: none is blocked and, where there is an allow list, all are on it. */
export function admits(tags = []) {
  const { blockedCategories: blocked, allowedCategories: allowed } = chosen;
  return tags.every((tag) => !blocked.includes(tag) && (!allowed.length || allowed.includes(tag)));
}

/** A tag on both lists counts as blocked. */
function stateOf(tag, { blockedCategories, allowedCategories }) {
  if (blockedCategories.includes(tag)) return 'blocked';
  return allowedCategories.includes(tag) ? 'allowed' : 'neutral';
}

/** Both lists as they are to be once this tag has that state. */
export function changed({ blockedCategories, allowedCategories }, tag, state) {
  const list = (tags, on) => [...tags.filter((each) => each !== tag), ...(on ? [tag] : [])].sort();
  return {
    blockedCategories: list(blockedCategories, state === 'blocked'),
    allowedCategories: list(allowedCategories, state === 'allowed'),
  };
}

/** Every category that can be chosen, and any other that was. */
export function choosable(preferences) {
  const tags = new Set([...preferences.blockedCategories, ...preferences.allowedCategories]);
  for (const { name, retiredAt } of categories) if (!retiredAt) tags.add(name);
  return [...tags].sort().map((tag) => ({ tag, title: titleOf(tag), state: stateOf(tag, preferences) }));
}

/** A row of the preferences: a tag and its three states. `el` makes elements, `save` takes the tag and a state. */
export function choiceRow(el, { tag, title, state }, save) {
  const options = Object.entries(LABELS).map(([value, label]) =>
    el('option', { value, selected: value === state, defaultSelected: value === state }, label));
  const select = el('select', { ariaLabel: `Preference for ${title}` }, ...options);
  select.onchange = () => save(tag, select.value);
  const row = el('li', {}, el('span', {}, title), select);
  row.dataset.state = state;
  return row;
}

/** A box to tick for each tag that new commands may carry. */
export function tagBox(el, { name, title }, ticked) {
  const box = el('input', { type: 'checkbox', name: 'categories', value: name, checked: ticked });
  return el('label', { className: 'tick' }, box, title);
}
