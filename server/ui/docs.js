// Renders /openapi.json: every operation with its fields, answers and a call to copy.

const api = await (await fetch("openapi.json")).json();
const base = new URL(".", document.baseURI).href.replace(/\/$/, "");
const operations = document.getElementById("operations");
const contents = document.getElementById("contents");

function make(name, className, ...content) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...content);
  return made;
}

// Text with `code` in it.
const prose = (text) => (text ?? "").split("`").map((part, i) => (i % 2 ? make("code", "", part) : part));
const nameOf = (schema) => schema.$ref.split("/").pop();
const resolve = (schema) => (schema.$ref ? api.components.schemas[nameOf(schema)] : schema);
const wordy = (schema) => schema.anyOf?.some((each) => each.description);

// The type of a value in a few words; objects by name.
function typeOf(schema) {
  if (schema.$ref) return nameOf(schema);
  if (schema.anyOf) return [...new Set(schema.anyOf.map(typeOf))].filter((type) => type !== "null").join(" | ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.type === "array") return `list of ${schema.items ? typeOf(schema.items) : schema.prefixItems ? `(${schema.prefixItems.map(typeOf).join(", ")})` : "any"}`;
  if (schema.type === "object") return schema.additionalProperties ? `map to ${typeOf(schema.additionalProperties)}` : "object";
  return schema.type ?? "any";
}

// Bounds that say more than what a number can be at all.
function range(schema) {
  const inner = schema.anyOf?.find((each) => each.minimum !== undefined) ?? schema;
  const sane = (bound) => bound !== undefined && Math.abs(bound) < 2 ** 31 - 1;
  const parts = [];
  if (sane(inner.minimum)) parts.push(sane(inner.maximum) ? `${inner.minimum} to ${inner.maximum}` : `${inner.minimum} and up`);
  if (inner.maxProperties) parts.push(`up to ${inner.maxProperties}`);
  if (schema.default !== undefined && schema.default !== null && schema.default !== "" && String(schema.default) !== "") {
    parts.push(`default ${JSON.stringify(schema.default)}`);
  }
  return parts.join(", ");
}

function references(schema) {
  if (schema.$ref) return [schema];
  return [...(schema.anyOf ?? []), ...(schema.items ? [schema.items] : [])].flatMap(references);
}

// The fields of an object; objects in it fold out, those within themselves do not.
function fields(schema, within = []) {
  const object = resolve(schema);
  const list = make("dl", "fields");
  const required = (name) => object.required?.includes(name) ?? false;
  const entries = Object.entries(object.properties ?? {}).sort(([a], [b]) => required(b) - required(a));
  for (const [name, field] of entries) {
    const term = make("dt", "", make("code", "", name));
    if (required(name)) term.append(make("small", "", " required"));
    const inner = field.description || !wordy(field) ? field : field.anyOf.find((each) => each.description);
    const about = make("dd");
    if (references(field).length !== 1 || typeOf(field) !== nameOf(references(field)[0])) {
      about.append(make("span", "type", typeOf(field)));
    }
    const limits = range(field);
    if (limits) about.append(make("span", "range", limits));
    const words = inner.description ?? (field.$ref ? resolve(field).description : "");
    if (words) about.append(make("p", "", ...prose(words)));
    for (const reference of references(field).filter((each) => !within.includes(each.$ref))) {
      about.append(fold(reference, within));
    }
    list.append(term, about);
  }
  return list;
}

function fold(reference, within) {
  const details = make("details", "", make("summary", "", nameOf(reference)));
  details.addEventListener("toggle", () => {
    if (details.childElementCount === 1) details.append(fields(reference, [...within, reference.$ref]));
  }, { once: true });
  return details;
}

function curl(method, path, { security }, media) {
  const url = `${base}${path.replace(/\{(\w+)\}/g, "NAME")}`;
  const call = security ? `curl -H "Authorization: Bearer $API_KEY"` : "curl";
  if (method === "get") return `${call} ${url}`;
  if (method === "head") return `${call} -I ${url}`;
  if (!media) return `${call} -X POST ${url}`;
  const body = JSON.stringify(media.example ?? {}).replaceAll("'", "'\\''");
  return `${call} ${url} -H 'Content-Type: application/json' -d '${body}'`;
}

// The JSON in the events of a stream.
function eventContent(schema) {
  const data = schema.properties?.data;
  return (data?.anyOf ?? [data]).find((each) => each?.contentSchema)?.contentSchema;
}

function answers(responses) {
  const list = make("dl", "fields answers");
  for (const [status, { description, content }] of Object.entries(responses)) {
    const about = make("dd", "");
    if (status !== "200") about.append(make("p", "", description));
    for (const [kind, media] of Object.entries(content ?? {})) {
      about.append(make("span", "type", kind));
      for (const reference of references(eventContent(media.schema) ?? media.schema)) about.append(fold(reference, []));
    }
    list.append(make("dt", "", make("code", status < "400" ? "good" : "bad", status)), about);
  }
  return list;
}

function operation(path, method, content) {
  const id = `${method}${path.replace(/\W+/g, "-")}`;
  const media = content.requestBody?.content["application/json"];
  const heading = make("h3", "", make("span", `method ${method}`, method.toUpperCase()), make("code", "", path));
  const section = make("section", "card", heading, make("p", "", ...prose(content.summary)));
  section.id = id;
  const call = make("pre", "", curl(method, path, content, media));
  call.tabIndex = 0;
  section.append(call);
  for (const parameter of content.parameters ?? []) {
    section.append(make("p", "", make("code", "", parameter.name), ` in the ${parameter.in}. `, parameter.schema.description ?? ""));
  }
  if (media) {
    section.append(make("h4", "", "Body"));
    for (const part of media.schema.allOf ?? [media.schema]) section.append(fields(part, [part.$ref]));
  }
  section.append(make("h4", "", "Answers"), answers(content.responses));
  const link = make("a", "", make("span", `method ${method}`, method.toUpperCase()), path);
  link.href = `#${id}`;
  return { tag: content.tags[0], section, link };
}

const groups = new Map();
for (const [path, methods] of Object.entries(api.paths)) {
  for (const [method, content] of Object.entries(methods)) {
    const { tag, section, link } = operation(path, method, content);
    if (!groups.has(tag)) {
      groups.set(tag, true);
      operations.append(make("h2", "", tag));
      contents.append(make("h2", "", tag));
    }
    operations.append(section);
    contents.append(link);
  }
}
operations.removeAttribute("aria-busy");
if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
