"use strict";
// Filter and sort. Without this the page shows everything, in its own order. Nothing is ever read as HTML but the page's
// own rows, which wait in a <noscript> until somebody asks for them: thousands of rows in a table make a page slow.
(() => {
  const STEP = 200, FEW = 10, ON_PAPER = 1000;
  const order = new Intl.Collator("en", { numeric: true });
  const number = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

  const make = (name, properties, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  // The text at a place of a row, where a cell may span two; null is NULL or nothing, which come last.
  const textAt = (row, at) => {
    let place = 0;
    for (const cell of row.cells) {
      place += cell.colSpan;
      if (place > at) {
        const nothing = cell.classList.contains("no") || cell.querySelector(":scope > i");
        return nothing ? null : cell.textContent.trim() || null;
      }
    }
    return null;
  };

  const sorted = (rows, at, down) => {
    const keyed = rows.map((row, index) => ({ row, index, text: textAt(row, at) }));
    const numbers = keyed.every(({ text }) => text === null || number.test(text));
    for (const one of keyed) one.key = numbers && one.text !== null ? Number(one.text) : one.text;
    const compare = numbers ? (a, b) => a - b : order.compare;
    keyed.sort((a, b) => {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.index - b.index;
      return (down ? -1 : 1) * compare(a.key, b.key) || a.index - b.index;
    });
    return keyed.map(({ row }) => row);
  };

  const enliven = (part) => {
    const table = part.querySelector("table");
    const body = table.tBodies[0];
    const rest = part.querySelector("noscript.more");
    const total = Number(table.dataset.rows);
    const state = { all: null, texts: null, shown: null, limit: STEP, at: -1, down: false };

    const all = () => {
      if (state.all) return state.all;
      state.all = [...body.rows];
      if (rest) {
        const page = new DOMParser().parseFromString(rest.textContent, "text/html");
        for (const more of page.querySelectorAll("tbody")) state.all.push(...more.rows);
      }
      return state.all;
    };
    const texts = () => (state.texts ??= all().map((row) => row.textContent.toLowerCase()));

    const input = make("input", { type: "search", autocomplete: "off", spellcheck: false });
    const count = make("output", {});
    count.setAttribute("aria-live", "polite");
    const more = make("button", { type: "button" });
    const on = make("div", { className: "on" }, more);

    const tell = () => {
      const matching = state.shown ? state.shown.length : total;
      const visible = Math.min(state.limit, matching);
      const say = (count) => count.toLocaleString("en");
      count.textContent = matching === total ? `${say(total)} rows` : `${say(matching)} of ${say(total)} rows`;
      if (visible < matching) count.textContent += `, the first ${say(visible)} shown`;
      on.hidden = visible >= matching;
      more.textContent = `Show ${say(Math.min(STEP, matching - visible))} more`;
    };
    const show = () => {
      body.replaceChildren(...state.shown.slice(0, state.limit));
      tell();
    };
    const find = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      const hay = words.length ? texts() : null;
      const found = all().filter((_, index) => words.every((word) => hay[index].includes(word)));
      state.shown = state.at < 0 ? found : sorted(found, state.at, state.down);
      show();
    };

    for (const head of table.tHead.querySelectorAll("th[data-at]")) {
      const button = make("button", { type: "button", ariaLabel: `Sort by ${head.textContent.trim()}` });
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const at = Number(head.dataset.at);
        if (state.at !== at) Object.assign(state, { at, down: false });
        else if (!state.down) state.down = true;
        else Object.assign(state, { at: -1, down: false });
        for (const other of table.tHead.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
        if (state.at >= 0) head.setAttribute("aria-sort", state.down ? "descending" : "ascending");
        find();
      });
    }

    let waiting = 0;
    input.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => { state.limit = STEP; find(); }, total > STEP ? 120 : 0);
    });
    more.addEventListener("click", () => { state.limit += STEP; state.shown ??= all(); show(); });
    if (total > FEW) table.caption.append(make("span", { className: "tools" }, make("label", {}, "Filter ", input), count));
    part.append(on);
    tell();

    // Paper has no buttons: the rows that match, up to a number at which a browser still gets done, and all of each text.
    let before = STEP;
    addEventListener("beforeprint", () => {
      before = state.limit;
      if (!on.hidden) { state.limit = Math.max(state.limit, ON_PAPER); state.shown ??= all(); show(); }
    });
    addEventListener("afterprint", () => {
      if (state.limit !== before) { state.limit = before; show(); }
    });
  };

  for (const part of document.querySelectorAll(".part")) {
    if (part.querySelector("table").dataset.rows > 1) enliven(part);
  }
})();
