// Small parts that both the page and the detail are made of.

const GLYPHS = {
  blocked: "\u25c7", queued: "\u25cb", assigned: "\u25d4", accepted: "\u25d4", running: "\u25b6", working: "\u25b6", verifying: "\u25b6",
  waiting: "\u25c6", completed: "\u2713", passed: "\u2713", failed: "\u2715", dead: "\u2715", lost: "\u2715", cancelled: "\u2298",
  idle: "\u25cb", offline: "?", unknown: "?", draining: "\u21bb",
};

/** An element; children are nodes or text. Attributes are set, text stays text. */
export const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

/** A state as glyph, word and colour; never colour alone. */
export const stateChip = (state, words = state) => {
  const known = Object.hasOwn(GLYPHS, state);
  return element("span", { class: `state ${known ? state : ""}` }, element("span", { "aria-hidden": "true" }, known ? GLYPHS[state] : "\u00b7"), words);
};

/** A length of time in few characters. */
export const length = (seconds) => {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} m ${Math.floor(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} m`;
  return `${Math.floor(seconds / 86400)} d`;
};

/** Time from `start` to `end` (now, if it has not ended). */
export const took = (start, end) => length(Math.max(0, ((end ? Date.parse(end) : Date.now()) - Date.parse(start)) / 1000));

/** How long ago, in words. */
export const ago = (time) => {
  const seconds = Math.max(0, (Date.now() - Date.parse(time)) / 1000);
  return seconds < 5 ? "just now" : `${length(seconds)} ago`;
};

/** Time of day, to the second. */
export const clock = (time) => new Date(time).toLocaleTimeString([], { hour12: false });
