// Output as tokens: tinted by how unlikely each was, with the alternatives of the one that is pointed at.

const tip = document.getElementById("alternatives");
const WIDTH = 240;

let shown = null;

export function hideAlternatives() {
  shown?.classList.remove("current");
  shown = null;
  tip.hidden = true;
}

const visible = (text) => text.replace(/ /g, "\u2423").replace(/\n/g, "\u23ce").replace(/\t/g, "\u21e5") || "(no text)";
const percent = (p) => (p >= 0.0995 ? (100 * p).toFixed(0) : (100 * p).toPrecision(2)) + "%";

function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

function row(token, logprob, chosen) {
  const line = element("div", chosen ? "chosen" : "");
  line.append(element("code", "", visible(token)), element("span", "", percent(Math.exp(logprob))));
  line.style.setProperty("--p", Math.exp(logprob).toFixed(4));
  return line;
}

function show(span, tokens) {
  hideAlternatives();
  shown = span;
  span.classList.add("current");
  tip.replaceChildren();
  for (const { token, logprob, top } of tokens) {
    const others = top.filter(([text, value]) => text !== token || value !== logprob);
    const rows = [[token, logprob, true], ...others.map(([text, value]) => [text, value, false])];
    rows.sort((a, b) => b[1] - a[1]);
    tip.append(...rows.map((entry) => row(...entry)));
  }
  tip.hidden = false;
  const box = span.getClientRects()[0] ?? span.getBoundingClientRect();
  const below = box.bottom + tip.offsetHeight + 8 < innerHeight;
  tip.style.left = `${Math.max(8, Math.min(box.left, innerWidth - WIDTH - 8))}px`;
  tip.style.top = `${below ? box.bottom + 4 : box.top - tip.offsetHeight - 4}px`;
}

// A place that tokens are added to.
export class TokenView {
  constructor(place) {
    this.place = place;
    this.pending = [];
    this.count = 0;
    this.tokens = new WeakMap();
    place.tabIndex = 0;
    place.setAttribute("role", "group");
    place.setAttribute("aria-label", "Output; arrow keys go from token to token");
    place.addEventListener("pointerover", (event) => this.point(event.target));
    place.addEventListener("click", (event) => this.point(event.target));
    place.addEventListener("pointerleave", hideAlternatives);
    place.addEventListener("blur", hideAlternatives);
    place.addEventListener("keydown", (event) => this.step(event));
  }

  // Tokens without text of their own (half a character, held-back text) go with the next that has some.
  add(text, tokens) {
    this.pending.push(...tokens);
    this.count += tokens.length;
    if (!text) return;
    const span = element("span", "token", text);
    if (this.pending.length) {
      const least = Math.min(...this.pending.map((token) => token.logprob));
      span.style.setProperty("--u", (1 - Math.exp(least)).toFixed(3));
      this.tokens.set(span, this.pending);
    }
    this.pending = [];
    this.place.append(span);
  }

  point(span) {
    const tokens = this.tokens.get(span);
    if (tokens) show(span, tokens);
    else hideAlternatives();
  }

  step(event) {
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!move) return;
    event.preventDefault();
    const spans = [...this.place.children];
    const at = spans.indexOf(shown);
    const next = spans[at < 0 ? (move > 0 ? 0 : spans.length - 1) : at + move];
    if (next) {
      next.scrollIntoView({ block: "nearest" });
      this.point(next);
    }
  }
}
