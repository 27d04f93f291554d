// @ts-check
// What work has changed, line by line, as its machine told it.

import { html, plural } from "../ui.js";

/** @typedef {{name: string, kind: string, lines: string[], added: number, removed: number}} File */

const FOLDED_LINES = 400;

/** The files of a unified diff. @param {string} text @returns {{files: File[], rest: string}} */
const read = (text) => {
  /** @type {File[]} */ const files = [];
  let rest = "";
  let isHead = false;
  for (const line of text.trimEnd().split("\n")) {
    const file = files.at(-1);
    if (line.startsWith("diff --git ")) { files.push({ name: line.slice(11), kind: "changed", lines: [], added: 0, removed: 0 }); isHead = true; }
    else if (!file) continue;
    else if (line.startsWith("[... the rest is cut")) rest = line;
    else if (isHead && line.startsWith("@@")) { isHead = false; file.lines.push(line); }
    else if (isHead) {
      if (line.startsWith("new file")) file.kind = "new";
      else if (line.startsWith("deleted file")) file.kind = "gone";
      else if (line.startsWith("rename to ")) { file.kind = "renamed"; file.name = line.slice(10); }
      else if (line.startsWith("Binary files")) file.lines.push("not text");
      else if (line.startsWith("+++ b/")) file.name = line.slice(6);
      else if (line.startsWith("--- a/")) file.name = line.slice(6);
    } else {
      file.lines.push(line);
      if (line.startsWith("+")) file.added += 1; else if (line.startsWith("-")) file.removed += 1;
    }
  }
  return { files, rest };
};

/** @param {string} line */
const kindOf = (line) => line.startsWith("@@") ? "place" : line.startsWith("+") ? "plus" : line.startsWith("-") ? "minus" : "";

/** @param {{file: File, isOpen: boolean}} props */
const FileDiff = ({ file, isOpen }) => html`<details class="change" open=${isOpen}><summary><code>${file.name}</code> ${file.kind === "changed" ? null : html`<span class="muted">${file.kind}</span> `}<span class="num plus">+${file.added}</span> <span class="num minus">\u2212${file.removed}</span></summary>
  <pre class="diff" tabIndex="0" aria-label="Changes of ${file.name}">${file.lines.map((line, place) => html`<span key=${place} class=${kindOf(line)}>${line || " "}\n</span>`)}</pre></details>`;

/** @param {{text: string, title?: string}} props */
export default ({ text, title = "What it changed" }) => {
  if (!text) return null;
  const { files, rest } = read(text);
  const added = files.reduce((sum, file) => sum + file.added, 0);
  const removed = files.reduce((sum, file) => sum + file.removed, 0);
  const isSmall = files.reduce((sum, file) => sum + file.lines.length, 0) <= FOLDED_LINES;
  return html`<section aria-labelledby="change"><h2 id="change">${title}</h2><p class="muted">${plural(files.length, "file")}, <span class="num plus">+${added}</span> <span class="num minus">\u2212${removed}</span></p>
    ${files.map((file, place) => html`<${FileDiff} key=${file.name + place} file=${file} isOpen=${isSmall || place === 0} />`)}${rest ? html`<p class="muted">${rest}</p>` : null}</section>`;
};
