// The playground. What is sent back is shown in frames that may run nothing; here it is only ever text.

import { curl, python } from "./code.js";
import { parsed, written } from "./passages.js";

const at = (id) => document.getElementById(id);
const base = new URL(".", location.href).href;
const panes = [0, 1].map((n) => ({ recipe: at(`recipe${n}`), frame: at(`frame${n}`), figures: at(`figures${n}`) }));
let busy = false;
let again = false;
let shown = 0;

// What is asked for now, for one recipe.
function asked(recipe) {
  return {
    query: at("query").value,
    passages: parsed(at("passages").value),
    budget: at("auto").checked ? "auto" : `${at("budget").value}%`,
    model: recipe,
  };
}

// One request is under way at a time; whatever changed meanwhile is asked once, with the newest values.
async function update() {
  at("said").value = at("auto").checked ? "auto" : `${at("budget").value}%`;
  if (busy) {
    again = true;
    return;
  }
  busy = true;
  do {
    again = false;
    await round();
  } while (again);
  busy = false;
}

async function round() {
  const compared = at("compare").checked;
  at("second").hidden = !compared;
  at("panes").classList.toggle("two", compared);
  try {
    write();
    const { query, passages } = asked("");
    if (query.trim() && passages.length) for (const pane of compared ? panes : panes.slice(0, 1)) await shape(pane);
    at("problem").textContent = "";
  } catch (error) {
    at("problem").textContent = error.message;
  }
  // Tests wait for it.
  document.body.dataset.shown = String(++shown);
}

async function shape(pane) {
  const started = performance.now();
  const answer = await fetch(`${base}v1/shape`, {
    method: "POST",
    headers: { "content-type": "application/json", ...(at("key").value && { "x-api-key": at("key").value }) },
    body: JSON.stringify({ ...asked(pane.recipe.value), page: true, attention: at("heat").checked }),
  }).catch(() => {
    throw new Error("The service does not answer.");
  });
  if (answer.status === 401) at("keyrow").hidden = false;
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(told.message ?? `The service answered ${answer.status}.`);
  await show(pane.frame, told.page);
  const took = performance.now() - started;
  const share = told.tokens_in ? Math.round((100 * told.tokens) / told.tokens_in) : 0;
  const parts = [
    `${told.tokens} of ${told.tokens_in} tokens (${share}%)`,
    `shaped in ${Math.round(1000 * told.seconds)} ms`,
    `on screen in ${Math.round(took)} ms`,
  ];
  if (told.answerable !== null) parts.push(`answerable: ${Math.round(100 * told.answerable)}%`);
  pane.figures.textContent = parts.join(" · ");
}

// The page in its frame. From the second time on only its content changes: scroll and switches stay as they are.
async function show(frame, page) {
  const main = frame.contentDocument?.querySelector("main");
  if (!main) {
    await new Promise((loaded) => {
      frame.addEventListener("load", loaded, { once: true });
      frame.srcdoc = page;
    });
    frame.contentDocument.documentElement.classList.add("within");
    return;
  }
  const next = new DOMParser().parseFromString(page, "text/html").querySelector("main");
  // The heat's own buttons come and go: where they are new, theirs holds.
  for (const input of main.querySelectorAll("input")) {
    const same = next.querySelector(`#${input.id}`);
    if (same) same.checked = input.checked;
  }
  main.replaceWith(next);
}

function write() {
  const first = asked(panes[0].recipe.value);
  at("code").textContent = at("python").checked ? python(first) : curl(first, base, Boolean(at("key").value));
  at("copied").textContent = "";
}

async function copy() {
  const text = at("code").textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without TLS a page elsewhere than on this machine has no clipboard: what is selected can be copied by hand.
    getSelection().selectAllChildren(at("code"));
    at("copied").textContent = "selected: press Ctrl+C";
    return;
  }
  at("copied").textContent = "copied";
}

function later(work, wait) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, wait);
  };
}

async function start() {
  if (panes[1].recipe.length > 1) panes[1].recipe.selectedIndex = 1;
  const typed = later(update, 300);
  at("form").addEventListener("submit", (event) => event.preventDefault());
  for (const id of ["query", "passages", "key"]) at(id).addEventListener("input", typed);
  for (const id of ["query", "passages"]) at(id).addEventListener("input", () => (at("sample").value = ""));
  at("budget").addEventListener("input", () => {
    at("auto").checked = false;
    update();
  });
  for (const id of ["auto", "heat", "compare", "recipe0", "recipe1"]) at(id).addEventListener("change", update);
  for (const id of ["python", "curl"]) at(id).addEventListener("change", write);
  at("copy").addEventListener("click", copy);

  const samples = await (await fetch(`${base}playground/samples.json`)).json();
  for (const { name } of samples) at("sample").append(new Option(name));
  at("sample").addEventListener("change", () => {
    const sample = samples.find(({ name }) => name === at("sample").value);
    if (!sample) return;
    at("query").value = sample.query;
    at("passages").value = written(sample.passages);
    update();
  });
  at("sample").selectedIndex = 1;
  at("sample").dispatchEvent(new Event("change"));
}

start();
