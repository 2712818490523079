// The page: chat, completion and score forms, and what runs for them.

import { hasKey, setKey } from "./key.js";
import { chunks, piece, post } from "./stream.js";
import { hideAlternatives, TokenView } from "./tokens.js";
import { watch } from "./plots.js";

const $ = (id) => document.getElementById(id);
const MODES = ["chat", "completion", "score"];
const ALTERNATIVES = 5;

let server = null; // the last state that the server told
let running = null; // AbortController of what runs
let turns = []; // of the chat: {role, content}
let last = null; // the last request: {path, body}

// Settings

const settings = $("settings");

function sampling() {
  const fields = { model: server?.model_name ?? "default" };
  for (const name of ["temperature", "top_p", "max_tokens", "seed", "top_k", "repetition_penalty",
    "presence_penalty", "frequency_penalty"]) {
    const input = settings.elements[name];
    if (input.value !== "") fields[name] = Number(input.value);
  }
  const stop = settings.elements.stop.value.split("\n").filter(Boolean);
  if (stop.length) fields.stop = stop;
  return fields;
}

for (const input of settings.querySelectorAll("input[type=range]")) {
  const output = settings.querySelector(`output[for=${input.id}]`);
  const write = () => { output.value = Number(input.value).toFixed(2); };
  input.addEventListener("input", write);
  write();
}
settings.addEventListener("submit", (event) => event.preventDefault());

// Requests

const say = (text, bad = false) => {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
};

function busy(controller) {
  running = controller;
  const held = document.activeElement;
  document.body.classList.toggle("running", controller !== null);
  for (const button of document.querySelectorAll("[data-run]")) button.hidden = controller !== null;
  for (const button of document.querySelectorAll("[data-stop]")) button.hidden = controller === null;
  $("retry").disabled = $("clear").disabled = controller !== null || !turns.length;
  // What had the focus may be gone now.
  if (held?.matches("[data-run], [data-stop], #retry")) {
    held.form.querySelector(controller ? "[data-stop]" : "textarea").focus();
  }
}

// Runs work(signal) as the one thing that runs; returns whether it came to its end. What it fails with is told.
async function alone(work) {
  if (running) return false;
  const controller = new AbortController();
  busy(controller);
  say("Running");
  try {
    await work(controller.signal);
    return true;
  } catch (error) {
    if (controller.signal.aborted) say(`Stopped. ${$("status").dataset.so ?? ""}`);
    else say(error.message, true);
    return false;
  } finally {
    busy(null);
  }
}

// Streams an answer into place, and returns its text whatever ends it.
async function generate(path, body, place, signal) {
  last = { path, body };
  const view = new TokenView(place);
  const began = performance.now();
  let text = "", first = null, finish = null, usage = null;
  const scroller = place.closest(".output");
  const told = () => {
    const seconds = (performance.now() - first) / 1000;
    const tokens = usage?.completion_tokens ?? view.count;
    const parts = [`${tokens} token${tokens === 1 ? "" : "s"}`];
    if (tokens > 1 && seconds > 0) parts.push(`${((tokens - 1) / seconds).toFixed(1)} tokens/s`);
    parts.push(`first after ${Math.round(first - began)} ms`);
    if (usage) parts.push(`${usage.prompt_tokens} in the prompt, ${usage.prompt_tokens_details.cached_tokens} of them cached`);
    return parts.join(" \u00b7 ");
  };
  delete $("status").dataset.so;
  try {
    for await (const chunk of chunks(path, { ...body, stream: true, stream_options: { include_usage: true } }, signal)) {
      const part = piece(chunk);
      if (part.tokens.length || part.text) first ??= performance.now();
      const following = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 40;
      view.add(part.text, part.tokens);
      if (following) scroller.scrollTop = scroller.scrollHeight;
      text += part.text;
      finish = part.finish ?? finish;
      usage = chunk.usage ?? usage;
    }
    say(first === null ? "Nothing was generated." : `${told()} \u00b7 ended by ${finish}`);
  } finally {
    if (first !== null) $("status").dataset.so = told();
    place.dispatchEvent(new CustomEvent("text", { detail: text }));
  }
}

// Chat

function turn(role, content) {
  $("turns").querySelector(".empty")?.remove();
  const article = document.createElement("article");
  article.className = role;
  const heading = document.createElement("h3");
  heading.textContent = role;
  const place = document.createElement("div");
  place.className = "text";
  place.textContent = content;
  article.append(heading, place);
  $("turns").append(article);
  $("turns").scrollTop = $("turns").scrollHeight;
  return { article, place };
}

async function send(message) {
  const user = turn("user", message);
  const answer = turn("assistant", "");
  let content = "";
  answer.place.addEventListener("text", (event) => { content = event.detail; });
  const system = settings.elements.system.value.trim();
  const asked = { role: "user", content: message };
  const messages = [...(system ? [{ role: "system", content: system }] : []), ...turns, asked];
  const { max_tokens, ...fields } = sampling();
  const body = { ...fields, max_completion_tokens: max_tokens, messages, ...logprobs("chat") };
  const complete = await alone((signal) => generate("v1/chat/completions", body, answer.place, signal));
  if (complete || content) {
    turns.push(asked, { role: "assistant", content });
  } else {
    user.article.remove();
    answer.article.remove();
    if (!$("message").value) $("message").value = message;
  }
  busy(running);
}

function logprobs(mode) {
  if (mode === "completion") return { logprobs: server?.alternatives ? ALTERNATIVES : 0 };
  return server?.alternatives ? { logprobs: true, top_logprobs: ALTERNATIVES } : { logprobs: true };
}

$("chat-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const message = $("message").value.trim();
  if (!message || running) return;
  $("message").value = "";
  send(message);
});

$("retry").addEventListener("click", () => {
  const [asked] = turns.splice(-2);
  for (const article of [...$("turns").children].slice(-2)) article.remove();
  send(asked.content);
});

$("clear").addEventListener("click", () => {
  turns = [];
  $("turns").replaceChildren();
  say("");
  busy(null);
  $("message").focus();
});

// Completion

$("completion-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const prompt = $("prompt").value;
  if (!prompt || running) return;
  const before = document.createElement("span");
  before.className = "before";
  before.textContent = prompt;
  const place = document.createElement("span");
  place.addEventListener("text", (done) => {
    $("append").disabled = !done.detail;
    $("append").onclick = () => {
      $("prompt").value = prompt + done.detail;
      $("append").disabled = true;
      $("prompt").focus();
    };
  });
  $("append").disabled = true;
  $("text").replaceChildren(before, place);
  alone((signal) => generate("v1/completions", { ...sampling(), prompt, ...logprobs("completion") }, place, signal));
});

// Score

$("score-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const turns = [{ role: "user", content: $("question").value }, { role: "assistant", content: $("reply").value }];
  const chat = server?.chat ? turns : $("plain").value;
  last = { path: "get_score", body: { chat } };
  alone(async (signal) => {
    const answer = await (await post("get_score", { chat }, signal)).json();
    const item = document.createElement("li");
    const number = document.createElement("output");
    number.value = answer.score.toFixed(4);
    const text = document.createElement("span");
    text.textContent = server?.chat ? $("reply").value : chat;
    item.append(number, text);
    $("scores").prepend(item);
    say(`Score ${answer.score.toFixed(4)} \u00b7 ${answer.prompt_tokens} tokens`);
  });
});

// Keys, tabs, buttons

const stop = () => running?.abort();
for (const button of document.querySelectorAll("[data-stop]")) button.addEventListener("click", stop);

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    hideAlternatives();
    stop();
  } else if (event.key === "Enter" && !event.isComposing && event.target.form?.classList.contains("composer")) {
    if (event.target.tagName !== "TEXTAREA") return;
    if (event.ctrlKey || event.metaKey || (event.target.id === "message" && !event.shiftKey)) {
      event.preventDefault();
      event.target.form.requestSubmit();
    }
  }
});

const tab = (mode) => $(`tab-${mode}`);
const usable = () => MODES.filter((mode) => !tab(mode).hidden && !tab(mode).disabled);

function select(mode) {
  for (const other of MODES) {
    tab(other).setAttribute("aria-selected", String(other === mode));
    tab(other).tabIndex = other === mode ? 0 : -1;
    $(other).hidden = other !== mode;
  }
  $("system-field").hidden = mode !== "chat";
  hideAlternatives();
}

for (const mode of MODES) {
  tab(mode).addEventListener("click", () => select(mode));
  tab(mode).addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!move) return;
    const modes = usable();
    const next = modes[(modes.indexOf(mode) + move + modes.length) % modes.length];
    select(next);
    tab(next).focus();
  });
}

const heat = () => document.body.classList.toggle("heat", $("heat").checked);
$("heat").addEventListener("change", heat);
heat();

$("curl").addEventListener("click", async () => {
  if (!last) return say("There is no request yet.");
  const url = new URL(last.path, document.baseURI);
  const body = JSON.stringify(last.body).replaceAll("'", "'\\''");
  const key = hasKey() ? ` -H "Authorization: Bearer $API_KEY"` : "";
  try {
    await navigator.clipboard.writeText(`curl ${url}${key} -H 'Content-Type: application/json' -d '${body}'`);
    say("The last request is in the clipboard.");
  } catch {
    say("This browser gives no access to the clipboard.", true);
  }
});

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey($("key").value);
});

// What the server can do

function adapt(state) {
  $("model").textContent = state.model_name;
  document.title = `${state.model_name} \u2013 Peregrine`;
  settings.elements.max_tokens.max = state.max_request_tokens;
  tab("chat").hidden = tab("completion").hidden = $("sampling").hidden = state.scores;
  tab("score").hidden = !state.scores;
  tab("chat").disabled = !state.chat;
  $("score-chat").hidden = !state.chat;
  $("score-plain").hidden = state.chat;
  const notes = [];
  if (state.scores) notes.push("This is a reward model: it scores chats and generates no text.");
  if (!state.chat) notes.push(`The model has no chat template, so it takes ${state.scores ? "formatted texts" : "prompts"} only.`);
  if (!state.scores && !state.alternatives) notes.push("This engine reports no alternatives of its tokens.");
  $("note").textContent = notes.join(" ");
  $("note").hidden = !notes.length;
  const mode = MODES.find((known) => tab(known).ariaSelected === "true");
  if (!usable().includes(mode)) select(usable()[0]);
}

watch($("plots"), (state, status) => {
  const locked = status === 401;
  $("key-form").hidden = !locked;
  $("health").textContent = state ? "ready" : locked ? "locked" : "no answer";
  $("health").classList.toggle("bad", !state);
  const facts = (known) => known && JSON.stringify([known.model_name, known.chat, known.scores, known.alternatives]);
  if (state && facts(state) !== facts(server)) adapt(state);
  server = state ?? server;
});

if (matchMedia("(max-width: 55rem)").matches) $("sampling").open = false;
