// What outlives the page: localStorage is shared by all windows of the browser, sessionStorage is this window's own and
// survives a reload.

export const recall = (area, key, fallback) => JSON.parse(area.getItem(`tidegate.${key}`)) ?? fallback;
export const keep = (area, key, value) => area.setItem(`tidegate.${key}`, JSON.stringify(value));
