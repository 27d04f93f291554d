// @ts-check
// Give the mesh something to do, from nothing or like a task that was.

import { useState } from "preact/hooks";
import { ask, href, may } from "../store.js";
import { Dialog, html, say } from "../ui.js";

/** @typedef {import("../store.js").Row} Row */

const SIMPLE = ["title", "command", "prompt", "priority"];

/** @param {{like: Row, close: () => void}} props */
const Form = ({ like, close }) => {
  const [kind, setKind] = useState(like.prompt ? "prompt" : "command");
  const [error, setError] = useState("");
  const rest = Object.fromEntries(Object.entries(like).filter(([name]) => !SIMPLE.includes(name)));
  const [more, setMore] = useState(Object.keys(rest).length ? JSON.stringify(rest, null, 2) : "");
  const submit = async (/** @type {any} */ event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    try {
      /** @type {Row} */ const body = more.trim() ? JSON.parse(more) : {};
      body[kind] = form.get("work");
      if (form.get("title")) body.title = form.get("title");
      body.priority = form.get("priority");
      const made = await ask("tasks", { method: "POST", body });
      say(`${made.title || made.id} is in the queue`);
      close();
      location.hash = href("tasks", made.id);
    } catch (problem) { setError(/** @type {Error} */ (problem).message); }
  };
  return html`<form class="form" onSubmit=${submit}><label>Title <input name="title" value=${like.title ?? ""} /></label>
    <label>What to do <select value=${kind} onChange=${(/** @type {any} */ event) => setKind(event.target.value)}><option value="command">run a command (no tokens)</option><option value="prompt">give a model a prompt</option></select></label>
    <label>${kind === "command" ? "Command" : "Prompt"} <textarea name="work" rows="4" required>${like[kind] ?? ""}</textarea></label>
    <label>Priority <select name="priority">${["urgent", "high", "normal", "low"].map((one) => html`<option key=${one} selected=${one === (like.priority ?? "normal")}>${one}</option>`)}</select></label>
    <label>More of the task, as JSON (checks, repository, needs ...) <textarea rows="5" value=${more} onInput=${(/** @type {any} */ event) => setMore(event.target.value)}></textarea></label>
    ${error ? html`<p class="trouble" role="alert">${error}</p>` : null}<p class="actions"><button class="main">Submit</button></p></form>`;
};

/** @param {{like?: Row}} props */
export default ({ like }) => {
  const [open, setOpen] = useState(false);
  if (!may("tasks:submit")) return null;
  return html`<button type="button" class=${like ? "" : "main"} onClick=${() => setOpen(true)}>${like ? "Submit one like it" : "New task"}</button>
    ${open ? html`<${Dialog} title=${like ? "A task like this" : "New task"} close=${() => setOpen(false)}><${Form} like=${like ?? {}} close=${() => setOpen(false)} /><//>` : null}`;
};
