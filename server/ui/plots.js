// The server's load: one line each of the last minute, asked for once a second.

import { nextKey, withKey } from "./key.js";

const SVG = "http://www.w3.org/2000/svg";
const SECONDS = 60;
const [WIDTH, HEIGHT] = [120, 28];

class Plot {
  // least: what the top of the plot stands for at least; text: how a value is written.
  constructor(name, least, text) {
    [this.least, this.text, this.values] = [least, text, []];
    const figure = document.createElement("div");
    figure.className = "plot";
    const label = document.createElement("span");
    label.textContent = name;
    this.value = document.createElement("output");
    this.value.textContent = "\u2013";
    this.value.setAttribute("aria-label", name);
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    this.area = document.createElementNS(SVG, "path");
    this.line = document.createElementNS(SVG, "path");
    this.area.setAttribute("class", "area");
    svg.append(this.area, this.line);
    figure.append(label, svg, this.value);
    this.figure = figure;
  }

  // null is a second without a value.
  push(value) {
    this.values = [...this.values, value].slice(-SECONDS);
    this.value.textContent = value === null ? "\u2013" : this.text(value);
    const top = Math.max(this.least, ...this.values.filter((known) => known !== null));
    const first = SECONDS - this.values.length;
    let line = "", area = "", begin = null;
    this.values.forEach((known, i) => {
      const x = ((first + i) / (SECONDS - 1)) * WIDTH;
      if (known !== null) {
        const y = HEIGHT - 1 - (known / top) * (HEIGHT - 2);
        const step = `${x.toFixed(1)},${y.toFixed(1)}`;
        if (begin === null) {
          line += `M${step}`;
          area += `M${x.toFixed(1)},${HEIGHT}L${step}`;
          begin = x;
        } else {
          line += `L${step}`;
          area += `L${step}`;
        }
      }
      const ends = i + 1 === this.values.length || this.values[i + 1] === null;
      if (begin !== null && ends) {
        area += `L${x.toFixed(1)},${HEIGHT}Z`;
        begin = null;
      }
    });
    this.line.setAttribute("d", line);
    this.area.setAttribute("d", area);
  }
}

const share = (value) => `${(100 * value).toFixed(0)}%`;
const count = (value) => String(value);

const plots = {
  load: new Plot("KV cache in use", 1, share),
  running: new Plot("Running", 4, count),
  queued: new Plot("Queued", 4, count),
  speed: new Plot("Tokens/s", 10, (value) => value.toFixed(0)),
  hits: new Plot("Cache hits", 1, share),
};

function update(now, before) {
  plots.load.push(now.used_tokens / Math.max(1, now.capacity_tokens));
  plots.running.push(now.running);
  plots.queued.push(now.waiting);
  const since = (name) => (before && now[name] >= before[name] ? now[name] - before[name] : null);
  const tokens = since("generated_tokens_total");
  plots.speed.push(tokens === null ? null : tokens / Math.max(0.05, now.seconds - before.seconds));
  const queries = since("prefix_queries_total");
  plots.hits.push(queries ? since("prefix_hits_total") / queries : null);
}

// Calls told(state, status) with every state; the state is null where the server gives none, and the status 0 where it
// does not answer. A hidden page does not ask, nor does one whose key is wrong until there is another.
export function watch(place, told) {
  place.append(...Object.values(plots).map((plot) => plot.figure));
  let before = null;
  const ask = async () => {
    let state = null, status = 0;
    try {
      const response = await fetch("ui/state", { headers: withKey(), cache: "no-store", signal: AbortSignal.timeout(5000) });
      status = response.status;
      if (response.ok) state = await response.json();
    } catch {
      // told below
    }
    if (state) update(state, before);
    else Object.values(plots).forEach((plot) => plot.push(null));
    before = state;
    told(state, status);
    return status;
  };
  const loop = async () => {
    if (!document.hidden && (await ask()) === 401) await nextKey();
    setTimeout(loop, 1000);
  };
  loop();
}
