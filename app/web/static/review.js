// The review pages by keyboard and mouse. Without this script their forms still accept and reject.
//
// Whatever changes something is a form of the page. A form with data-fetch is sent here, and the parts of the answer take the
// place of those with the same id; all others are left to the browser. Every key presses a button that the page shows.
// Offsets into a note are code points: a line says where it begins, and characters are counted from there.
"use strict";
(() => {
  const one = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);
  const words = document.body.dataset;
  document.documentElement.classList.add("scripted");

  // --- asking the server --------------------------------------------------------------------------------------------

  async function ask(url, body) {
    const answer = await fetch(url, {
      method: body ? "POST" : "GET", body, headers: { "X-Fragment": "1", Accept: "text/html" }, redirect: "manual",
    });
    const html = (answer.headers.get("content-type") || "").startsWith("text/html");
    if (!html) throw new Error(answer.status === 401 || answer.type === "opaqueredirect" ? words.ended : words.failed);
    return { ok: answer.ok, html: await answer.text() };
  }

  function put(html) {
    const parts = [...new DOMParser().parseFromString(html, "text/html").body.children];
    const inside = document.activeElement?.closest("[id]");
    for (const part of parts) byId(part.id)?.replaceWith(document.adoptNode(part));
    if (inside && !inside.isConnected) (byId(inside.id) || byId(`item-${here}`) || byId("items"))?.focus({ preventScroll: true });
    if (parts.some((part) => part.id !== "status")) index();
    later("status", 8000, () => tell(""));
  }

  function tell(text) {
    const status = byId("status");
    status.textContent = text;
  }

  // One after the other, in the order in which keys were pressed.
  let queue = Promise.resolve();
  function enqueue(work) {
    queue = queue.then(work).catch((error) => tell(error.message || words.failed));
    return queue;
  }

  async function send(form, button, spent) {
    const body = new URLSearchParams(new FormData(form, button));
    if (spent !== undefined && body.has("spent_ms")) body.set("spent_ms", spent);
    const answer = await ask(button?.getAttribute("formaction") || form.getAttribute("action"), body);
    put(answer.html);
    return answer.ok;
  }

  // --- items --------------------------------------------------------------------------------------------------------

  let here = null; // the item that the reader is at
  let since = performance.now();
  const decided = []; // what was decided on this page, the last one at the end
  const kept = new Map(); // cards that an editor stands in place of

  const cards = () => all("#groups article.card").filter((card) => !card.hidden && !card.parentElement.hidden);
  const isOpen = (card) => card.dataset.state === "open";
  const current = () => document.activeElement?.closest("article.card[data-item]") || byId(`item-${here}`);

  function go(card) {
    if (!card) return;
    if (card.dataset.item !== here) since = performance.now();
    here = card.dataset.item;
    card.focus({ preventScroll: true });
    card.scrollIntoView({ block: "nearest" });
    show([here]);
    one(`mark[data-items~="${CSS.escape(here)}"]`)?.scrollIntoView({ block: "nearest" });
  }

  function step(by) {
    const shown = cards(), at = shown.indexOf(current());
    go(at < 0 ? shown[0] : shown[Math.min(Math.max(at + by, 0), shown.length - 1)]);
  }

  function nextOpen(after) {
    const shown = cards(), at = shown.indexOf(after);
    return [...shown.slice(at + 1), ...shown.slice(0, Math.max(at, 0))].find(isOpen);
  }

  function decide(card, key) {
    const button = card && one(`[data-key="${key}"]`, card);
    if (!button) return;
    if (button.dataset.load) return void load(button);
    const id = card.id, spent = Math.round(performance.now() - since);
    if (button.hasAttribute("data-moves")) {
      decided.push(card.dataset.item);
      const next = nextOpen(card);
      if (next) go(next);
    }
    card.setAttribute("aria-busy", "true");
    // The card of that moment: an earlier answer may have replaced this one.
    enqueue(async () => {
      const found = byId(id), pressed = found && one(`[data-key="${key}"]`, found);
      const done = pressed && await send(pressed.form, pressed, spent);
      byId(id)?.removeAttribute("aria-busy");
      if (!done) go(byId(id));
    });
  }

  function undo() {
    const card = current();
    if (card && !isOpen(card)) return decide(card, "u");
    enqueue(() => { // what is being sent comes first
      const last = byId(`item-${decided.pop()}`);
      if (last && !isOpen(last)) { go(last); decide(last, "u"); }
    });
  }

  function acceptVisible(form) {
    const least = Number(form.threshold.value);
    const chosen = cards().filter((card) =>
      isOpen(card) && !("explicit" in card.dataset) && Number(card.dataset.probability || 0) >= least);
    form.ids.value = chosen.map((card) => card.dataset.item).join(",");
    enqueue(() => send(form));
  }

  function filter() {
    const group = byId("only-group")?.value || "", open = byId("only-open")?.checked || false;
    for (const section of all("#groups > section")) {
      section.hidden = Boolean(group) && section.id !== `group-${group}`;
      for (const card of all("article.card", section)) card.hidden = open && card.dataset.state !== "open" && card.dataset.item !== here;
    }
  }

  function index() {
    const states = new Map(all("#groups article.card, #groups article.stale").map((card) => [card.dataset.item, card.dataset.state]));
    for (const mark of all("#note-text mark")) {
      const found = mark.dataset.items.split(" ").map((id) => states.get(id)).filter(Boolean);
      if (!found.length) continue;
      mark.classList.remove("m-open", "m-reject", "m-done");
      mark.classList.add(found.includes("open") ? "m-open" : found.every((state) => state === "reject") ? "m-reject" : "m-done");
    }
    filter();
    show(here ? [here] : []);
  }

  // --- a field and its place in the note ----------------------------------------------------------------------------

  function show(items, part) {
    for (const lit of all(".lit, .spot")) lit.classList.remove("lit", "spot");
    for (const id of items) {
      byId(`item-${id}`)?.classList.add("lit");
      for (const mark of all(`mark[data-items~="${CSS.escape(id)}"], li[data-item="${CSS.escape(id)}"]`)) mark.classList.add("lit");
    }
    if (!part) return;
    for (const mark of all(`mark[data-parts~="${CSS.escape(part)}"]`)) mark.classList.add("spot");
    for (const field of all(`[data-part="${CSS.escape(part)}"]`)) field.classList.add("spot");
  }

  function pointed(target) {
    const mark = target.closest?.("mark");
    if (mark) {
      show(mark.dataset.items.split(" "));
      for (const part of mark.dataset.parts.split(" ")) {
        for (const field of all(`[data-part="${CSS.escape(part)}"]`)) field.classList.add("spot");
      }
      return true;
    }
    const owner = target.closest?.("[data-item]");
    if (owner?.dataset.item) {
      const part = target.closest("[data-part]")?.dataset.part;
      show([owner.dataset.item], part);
      return true;
    }
    return false;
  }

  document.addEventListener("mouseover", (event) => { if (!pointed(event.target) && here) show([here]); });
  document.addEventListener("focusin", (event) => {
    const card = event.target.closest("article.card[data-item]");
    if (card && card.dataset.item !== here) { here = card.dataset.item; since = performance.now(); }
    if (card) pointed(event.target);
  });

  // --- the note: a cursor that keys move, and selections ------------------------------------------------------------

  const note = byId("note");
  let anchor = 0, focus = 0; // code points
  let picking = null; // { editor, part }: the field that waits for a selection

  const lineList = () => all("#note-text .line");
  const length = (text) => { let n = 0; for (const _ of text) n += 1; return n; };
  const startOf = (line) => Number(line.dataset.start);

  function lineAt(lines, offset) {
    let low = 0, high = lines.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (startOf(lines[middle]) <= offset) low = middle; else high = middle - 1;
    }
    return low;
  }

  function offsetOf(node, at) {
    const line = (node.nodeType === Node.TEXT_NODE ? node.parentElement : node).closest(".line");
    if (line) {
      const range = document.createRange();
      range.setStart(line, 0);
      range.setEnd(node, at);
      return startOf(line) + length(range.toString());
    }
    const behind = document.createRange();
    behind.setStart(node, at);
    const lines = lineList(), next = lines.find((one) => behind.comparePoint(one, 0) >= 0);
    const last = lines[lines.length - 1];
    return next ? Math.max(0, startOf(next) - 1) : startOf(last) + length(last.textContent);
  }

  function pointOf(offset) {
    const lines = lineList(), line = lines[lineAt(lines, offset)];
    let left = offset - startOf(line);
    const walker = document.createTreeWalker(line, NodeFilter.SHOW_TEXT);
    let node = null;
    while (walker.nextNode()) {
      node = walker.currentNode;
      const size = length(node.data);
      if (left <= size) return [node, [...node.data].slice(0, left).join("").length];
      left -= size;
    }
    return node ? [node, node.data.length] : [line, 0];
  }

  function selected() {
    const range = [Math.min(anchor, focus), Math.max(anchor, focus)];
    return range[0] < range[1] ? range : null;
  }

  function place(from, to, { draw = true } = {}) {
    [anchor, focus] = [from, to];
    if (!draw) return;
    getSelection().setBaseAndExtent(...pointOf(from), ...pointOf(to));
    drawCaret();
  }

  function drawCaret() {
    const lines = lineList(), line = lines[lineAt(lines, focus)];
    const [node, at] = pointOf(focus), range = document.createRange();
    let box = line.getBoundingClientRect(), x = box.left;
    if (node.nodeType === Node.TEXT_NODE && node.data.length) {
      const ahead = at < node.data.length;
      range.setStart(node, ahead ? at : at - 1);
      range.setEnd(node, ahead ? at + 1 : at);
      box = range.getBoundingClientRect();
      x = ahead ? box.left : box.right;
    }
    let caret = byId("caret");
    if (!caret) {
      caret = document.createElement("span");
      caret.id = "caret";
      note.append(caret);
    }
    const outer = note.getBoundingClientRect();
    const top = box.top - outer.top + note.scrollTop;
    caret.style.left = `${x - outer.left + note.scrollLeft}px`;
    caret.style.top = `${top}px`;
    caret.style.height = `${box.height || 20}px`;
    if (top < note.scrollTop + 40) note.scrollTop = top - 40;
    else if (top > note.scrollTop + note.clientHeight - 60) note.scrollTop = top - note.clientHeight + 60;
  }

  function moved(event) {
    const lines = lineList(), at = lineAt(lines, focus), line = lines[at];
    const start = startOf(line), text = line.textContent, size = length(text);
    const last = lines[lines.length - 1], end = startOf(last) + length(last.textContent);
    const inLine = focus - start;
    switch (event.key) {
      case "ArrowRight": return Math.min(end, event.ctrlKey ? word(text, inLine, 1) + start : inLine < size ? focus + 1 : start + size + 1);
      case "ArrowLeft": return Math.max(0, event.ctrlKey ? word(text, inLine, -1) + start : focus - 1);
      case "ArrowDown": return at + 1 < lines.length ? startOf(lines[at + 1]) + Math.min(inLine, length(lines[at + 1].textContent)) : end;
      case "ArrowUp": return at > 0 ? startOf(lines[at - 1]) + Math.min(inLine, length(lines[at - 1].textContent)) : 0;
      case "Home": return start;
      case "End": return start + size;
      default: return null;
    }
  }

  function word(text, at, by) {
    const cuts = [0];
    for (const part of new Intl.Segmenter("ja", { granularity: "word" }).segment(text)) cuts.push(cuts[cuts.length - 1] + length(part.segment));
    const found = by > 0 ? cuts.find((cut) => cut > at) : cuts.filter((cut) => cut < at).pop();
    return found === undefined ? at + by : found;
  }

  function noteKey(event) {
    const to = moved(event);
    if (to !== null) {
      event.preventDefault();
      place(event.shiftKey ? anchor : to, to);
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (picking) take(); else if (selected()) byId("new") && load(one("[data-page-key='m']"));
    } else if (event.key === "Escape") {
      event.preventDefault();
      if (picking) stopPicking(); else go(byId(`item-${here}`) || cards()[0]);
    } else return false;
    return true;
  }

  function toNote() {
    if (!note) return;
    note.focus({ preventScroll: true });
    const mark = here && one(`mark[data-items~="${CSS.escape(here)}"]`);
    if (!selected() && mark) {
      const start = offsetOf(mark.firstChild, 0);
      place(start, start);
    } else place(anchor, focus);
  }

  note?.addEventListener("mouseup", () => {
    const chosen = getSelection();
    if (!chosen.rangeCount || !note.contains(chosen.anchorNode) || !note.contains(chosen.focusNode)) return;
    place(offsetOf(chosen.anchorNode, chosen.anchorOffset), offsetOf(chosen.focusNode, chosen.focusOffset), { draw: false });
    byId("caret")?.remove();
    if (picking && selected()) take();
  });
  note?.addEventListener("blur", () => byId("caret")?.remove());
  byId("note-text")?.addEventListener("click", (event) => {
    const mark = event.target.closest("mark");
    if (!mark || selected() || picking) return;
    const owners = mark.dataset.items.split(" ").map((id) => byId(`item-${id}`)).filter(Boolean);
    go(owners[(owners.findIndex((card) => card.dataset.item === here) + 1) % owners.length]);
  });

  // --- the editor ---------------------------------------------------------------------------------------------------

  async function load(link) {
    const target = link.dataset.load, url = new URL(link.href), chosen = target === "new" && selected();
    if (chosen) { url.searchParams.set("start", chosen[0]); url.searchParams.set("end", chosen[1]); }
    const before = byId(target);
    await enqueue(async () => { put((await ask(url)).html); });
    if (!kept.has(target) && byId(target) !== before) kept.set(target, before);
    const form = one("form", byId(target));
    byId(target).scrollIntoView({ block: "nearest" });
    one("select, [data-pick]", form)?.focus({ preventScroll: true });
    if (chosen || target !== "new") check(form);
  }

  function leave(editor) {
    const before = kept.get(editor.id);
    stopPicking();
    if (!before) return;
    kept.delete(editor.id);
    editor.replaceWith(before);
    index();
    go(before.dataset.item ? before : byId(`item-${here}`) || cards()[0]);
  }

  async function save(form, button) {
    const editor = form.closest("article"), item = editor.dataset.item;
    const spent = Math.round(performance.now() - since);
    await enqueue(async () => {
      if (!await send(form, button, spent)) return;
      kept.delete(editor.id);
      const made = one("#groups [data-new]") || byId(`item-${item}`);
      if (made) { decided.push(made.dataset.item); go(made); }
    });
  }

  const waiting = new Map();
  function later(name, milliseconds, work) {
    clearTimeout(waiting.get(name));
    waiting.set(name, setTimeout(work, milliseconds));
  }

  let asked = 0;
  function check(form) {
    if (!form.dataset.check) return; // nothing is computed of what it says
    later("check", 150, async () => {
      const number = asked += 1;
      try {
        const answer = await ask(form.dataset.check, new URLSearchParams(new FormData(form)));
        if (number === asked && form.isConnected) put(answer.html);
      } catch (error) { tell(error.message); }
    });
  }

  function pick(button) {
    const field = button.closest(".field"), form = button.closest("form"), part = button.dataset.pick;
    picking = { form, part, button };
    const line = byId("picking");
    line.textContent = line.dataset.words.replace("%", one(".name", field).textContent);
    line.hidden = false;
    const start = form[`${part}.start`].value, end = form[`${part}.end`].value, name = form["name.start"].value;
    if (start !== "") [anchor, focus] = [Number(start), Number(end)];
    else if (name !== "") [anchor, focus] = [Number(name), Number(name)];
    note.focus({ preventScroll: true });
    place(anchor, focus);
  }

  function stopPicking() {
    const button = picking?.button;
    picking = null;
    if (byId("picking")) byId("picking").hidden = true;
    if (button?.isConnected) button.focus({ preventScroll: true });
  }

  function take() {
    const chosen = selected();
    if (!chosen) return;
    const { form, part } = picking;
    write(form, part, chosen, getSelection().toString());
    stopPicking();
  }

  function write(form, part, span, text) {
    form[`${part}.start`].value = span ? span[0] : "";
    form[`${part}.end`].value = span ? span[1] : "";
    one(".written", form[`${part}.start`].closest(".field")).textContent = text;
    check(form);
  }

  // --- the code picker ----------------------------------------------------------------------------------------------

  function search(input) {
    later(input.id, 120, async () => {
      const form = input.form, list = input.getAttribute("aria-controls"), q = input.value.trim();
      if (!q) return void closeCodes(input);
      const body = new URLSearchParams({ csrf_token: form.csrf_token.value, kind: form.kind.value, q, list });
      try {
        const answer = await ask(input.dataset.codes, body);
        if (!input.isConnected || input.value.trim() !== q) return;
        put(answer.html);
        const found = byId(list);
        input.setAttribute("aria-expanded", String(!found.hidden));
        choice(input, found.firstElementChild);
      } catch (error) { tell(error.message); }
    });
  }

  function closeCodes(input) {
    const list = byId(input.getAttribute("aria-controls"));
    list.hidden = true;
    list.replaceChildren();
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function choice(input, option) {
    if (!option) return void input.removeAttribute("aria-activedescendant");
    for (const other of option.parentElement.children) other.setAttribute("aria-selected", String(other === option));
    input.setAttribute("aria-activedescendant", option.id);
    option.scrollIntoView({ block: "nearest" });
  }

  function searchKey(event, input) {
    const list = byId(input.getAttribute("aria-controls")), chosen = byId(input.getAttribute("aria-activedescendant"));
    if (list.hidden) return false;
    if (event.key === "ArrowDown") choice(input, chosen?.nextElementSibling || list.firstElementChild);
    else if (event.key === "ArrowUp") choice(input, chosen?.previousElementSibling || list.lastElementChild);
    else if (event.key === "Enter" && chosen) choose(input.form, chosen);
    else if (event.key === "Escape") closeCodes(input);
    else return false;
    event.preventDefault();
    event.stopPropagation();
    return true;
  }

  function choose(form, option) {
    const { system, code, display } = option.dataset, input = one(".search", form);
    form["coding.system"].value = system;
    form["coding.code"].value = code;
    form["coding.display"].value = display;
    one(".chosen", form).textContent = `${code} ${display}`;
    one("[data-uncode]", form).hidden = false;
    input.value = "";
    closeCodes(input);
    input.focus({ preventScroll: true });
    check(form);
  }

  function uncode(button) {
    const form = button.form;
    for (const part of ["system", "code", "display"]) form[`coding.${part}`].value = "";
    one(".chosen", form).textContent = button.dataset.words;
    button.hidden = true;
    one(".search", form).focus({ preventScroll: true });
    check(form);
  }

  // --- keys and buttons ---------------------------------------------------------------------------------------------

  function press(key) {
    if (key === "?") return void byId("help").showModal();
    const button = one(`[data-page-key="${key}"]`);
    if (!button) return;
    if (button.dataset.load) load(button); else button.click();
  }

  const MOVES = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 };

  document.addEventListener("keydown", (event) => {
    const target = event.target, editor = target.closest("[data-editor]");
    if (event.isComposing || target.closest("dialog")) return;
    if (target.matches(".search") && searchKey(event, target)) return;
    if (editor && event.key === "Escape") { event.preventDefault(); return void leave(editor.closest("article")); }
    if (editor && event.key === "Enter" && event.ctrlKey) { event.preventDefault(); return void save(editor); }
    if (target === note && noteKey(event)) return;
    if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input, select, textarea")) return;
    const rows = all("[data-row]");
    if (event.key in MOVES && rows.length) {
      const at = rows.indexOf(document.activeElement) + MOVES[event.key];
      rows[Math.min(Math.max(at, 0), rows.length - 1)].focus();
    } else if (event.key in MOVES && byId("groups")) step(MOVES[event.key]);
    else if (event.key === "u" && byId("groups")) undo();
    else if (event.key === "s" && note) toNote();
    else if ("are".includes(event.key) && byId("groups") && !editor) decide(current() || cards()[0], event.key);
    else if ("nmAf?".includes(event.key)) press(event.key);
    else return;
    event.preventDefault();
  });

  document.addEventListener("click", (event) => {
    const found = (selector) => event.target.closest(selector);
    const button = found("button, a, li[role=option]");
    if (!button || event.ctrlKey || event.metaKey) return;
    const card = button.closest("article.card");
    if (button.matches("[data-page-key='?']")) byId("help").showModal();
    else if (button.dataset.load) load(button);
    else if (button.dataset.key && card) decide(card, button.dataset.key);
    else if (button.dataset.pick) pick(button);
    else if (button.dataset.clear) write(button.form, button.dataset.clear, null, "");
    else if (button.hasAttribute("data-uncode")) uncode(button);
    else if (button.dataset.code) choose(button.closest("form"), button);
    else if (button.hasAttribute("data-cancel")) leave(card);
    else return;
    event.preventDefault();
  });

  document.addEventListener("submit", (event) => {
    const form = event.target, button = event.submitter;
    if (form.matches("[role=search]")) return void event.preventDefault();
    if (!form.hasAttribute("data-fetch")) return;
    event.preventDefault();
    if (form.hasAttribute("data-visible")) acceptVisible(form);
    else if (form.hasAttribute("data-editor")) save(form, button);
    else enqueue(() => send(form, button));
  });

  document.addEventListener("input", (event) => { if (event.target.matches(".search")) search(event.target); });
  document.addEventListener("change", (event) => {
    const target = event.target, form = target.closest("[data-editor]");
    if (target.matches("#only-open, #only-group")) filter();
    else if (target.matches("[data-kind]")) {
      const url = new URL(target.dataset.kind, location.href);
      url.searchParams.set("kind", target.value);
      for (const end of ["start", "end"]) if (form[`name.${end}`].value) url.searchParams.set(end, form[`name.${end}`].value);
      enqueue(async () => { put((await ask(url)).html); one("#new form [data-kind]")?.focus(); check(one("#new form")); });
    } else if (form && target.matches("select")) check(form);
  });

  // Whoever reads a note keeps it, as long as he does something.
  let active = false;
  for (const kind of ["keydown", "mousemove", "scroll"]) addEventListener(kind, () => { active = true; }, { passive: true, capture: true });
  const renewal = one("[data-renew]");
  if (renewal) setInterval(() => {
    if (!active || document.hidden) return;
    active = false;
    ask(renewal.dataset.renew, new URLSearchParams({ csrf_token: renewal.csrf_token.value })).catch(() => {});
  }, 120000);

  if (byId("groups")) {
    index();
    const named = location.hash.startsWith("#item-") && byId(location.hash.slice(1));
    go(named || cards().find(isOpen) || cards()[0]);
  }
})();
