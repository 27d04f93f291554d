// Renders /openapi.json. Everything from the document becomes a text node, never markup.

const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

const nameOf = (schema) => {
  if (!schema) return "any";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(nameOf).join(" | ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `list of ${nameOf(schema.items)}`;
  if (schema.additionalProperties?.type) return `object of ${nameOf(schema.additionalProperties)}`;
  return schema.format ? `${schema.type} (${schema.format})` : schema.type ?? "any";
};

const fields = (schema, known) => {
  const whole = schema?.$ref ? known[nameOf(schema)] : schema;
  if (!whole?.properties) return element("p", { class: "muted" }, nameOf(schema));
  const required = new Set(whole.required ?? []);
  const rows = Object.entries(whole.properties).map(([name, part]) =>
    element("tr", {}, element("td", {}, element("code", {}, name)), element("td", {}, nameOf(part)),
      element("td", { class: "muted" }, required.has(name) ? "required" : part.default !== undefined ? `default ${JSON.stringify(part.default)}` : "")));
  return element("table", {}, element("tbody", {}, ...rows));
};

const shapes = (schema, known) => (schema?.anyOf ?? [schema]).flatMap((part) =>
  [element("h3", {}, nameOf(part)), fields(part, known)]);

const operation = (path, method, told, known) => {
  const inside = element("div");
  if (told.description) inside.append(element("p", {}, told.description));
  if (told.parameters.length) {
    inside.append(element("h3", {}, "Parameters"), element("table", {}, element("tbody", {}, ...told.parameters.map((param) =>
      element("tr", {}, element("td", {}, element("code", {}, param.name)), element("td", {}, `${param.in}, ${nameOf(param.schema)}`),
        element("td", { class: "muted" }, param.description ?? ""))))));
  }
  const body = told.requestBody?.content["application/json"]?.schema;
  if (body) inside.append(element("h3", {}, "Body"), ...shapes(body, known));
  for (const [status, answer] of Object.entries(told.responses)) {
    if (answer.$ref) continue;
    inside.append(element("h3", {}, `Answer ${status}`));
    for (const [kind, content] of Object.entries(answer.content ?? {})) {
      inside.append(element("p", { class: "muted" }, kind));
      if (kind === "application/json" && content.schema) inside.append(...shapes(content.schema, known));
    }
  }
  const refusals = Object.entries(told.responses).filter(([, answer]) => answer.$ref).map(([status]) => status);
  inside.append(element("p", { class: "muted" }, `Problem documents: ${refusals.join(", ")}`));
  return element("details", {}, element("summary", {}, element("span", { class: "method" }, method.toUpperCase()), " ",
    element("span", { class: "path" }, path), element("span", { class: "muted" }, `  ${told.summary}`)), inside);
};

const show = (told) => {
  document.getElementById("about").textContent = `${told.info.description} Version ${told.info.version}.`;
  const groups = new Map();
  for (const [path, methods] of Object.entries(told.paths)) {
    for (const [method, one] of Object.entries(methods)) {
      const tag = one.tags[0];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(operation(path, method, one, told.components.schemas));
    }
  }
  const main = document.getElementById("routes");
  for (const [tag, made] of groups) main.append(element("h2", {}, tag), ...made);
};

try {
  const answer = await fetch("openapi.json");
  if (!answer.ok) throw new Error(`the hub answered ${answer.status}`);
  show(await answer.json());
} catch (error) {
  document.getElementById("about").textContent = `Cannot load the document: ${error.message}`;
}
