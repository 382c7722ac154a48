// The page: a task is chosen, its record filled, its prediction asked for and shown.

import { answered, failed, summary } from "./answer.js";
import { addressOf, describeTask, hasKey, listTasks, predict, ProblemError, useKey } from "./api.js";
import { curl } from "./curl.js";
import { button, element } from "./element.js";
import { ofIssue, ofProblem, Place } from "./message.js";
import { short } from "./number.js";
import { Record } from "./record.js";

const page = Object.fromEntries(
  ["task", "demo", "about", "case", "samples", "parts", "predict", "coverage", "access", "key", "status", "problem", "result"].map((id) => [id, document.getElementById(id)]),
);
const coverage = new Place(page.coverage, document.getElementById("coverage-messages"));
const access = new Place(page.key, document.getElementById("key-messages"), () => (page.access.open = true));

let task = null;
let record = null;
let version = ""; // of the model; empty: the newest, whichever that is
let choosing = null;
let asking = null;
let changes = 0; // of the record, counted: an answer may come after some

// ---- tasks ----

async function start() {
  await attempt(async () => {
    say("Loading\u2026");
    const tasks = await offer();
    const named = tasks.find((each) => each.name === location.hash.slice(1));
    await choose((named ?? tasks[0]).name);
  }, start);
}

/** Offer the tasks that the key reaches, and return them. */
async function offer() {
  const tasks = await listTasks();
  if (!tasks.length) throw new ProblemError({ title: "No task available", detail: "this key gives access to no task", code: "no_task" }, 403);
  page.task.replaceChildren(...tasks.map((each) => element("option", { value: each.name }, each.title)));
  return tasks;
}

/** Offer the tasks of another key; the record stays where its task is among them. */
function renew() {
  return attempt(async () => {
    const tasks = await offer();
    access.clear();
    page.problem.replaceChildren();
    if (tasks.some((each) => each.name === task.name)) page.task.value = task.name;
    else await choose(tasks[0].name);
  });
}

/** Choose a task and a version of its model, or say why it cannot be opened. */
function open(name, model) {
  return attempt(() => choose(name, model), () => open(name, model));
}

async function choose(name, model = "") {
  choosing?.abort(); // what was chosen before and is not there yet
  choosing = new AbortController();
  takeBack();
  say("Loading\u2026");
  page.task.value = name;
  page.predict.disabled = true;
  const found = await describeTask(name, model, choosing.signal).catch((error) => {
    if (error instanceof ProblemError) stay(error.problem);
    throw error;
  });
  takeBack(); // what a sample of the old task may have asked meanwhile
  task = found;
  version = model;
  history.replaceState(null, "", `#${name}`);
  clear();
  record?.fill({}); // which lets go of the files that it was still reading
  record = new Record(task, stale);
  page.parts.replaceChildren(...record.elements);
  page.samples.replaceChildren(
    ...task.examples.map((each) => button(each.title, () => show(each.record))),
    button("Clear", empty, { class: "quiet" }),
  );
  page.demo.hidden = !task.model.demo;
  page.about.replaceChildren(...about(task));
  document.title = `${task.title} \u2013 LANISTR playground`;
  page.result.replaceChildren(element("p", { class: "empty" }, "Fill in any part of the record, or choose a sample case. Empty parts count as missing."));
  page.status.textContent = "";
  page.predict.disabled = false;
}

/** Go on with the task and version that are shown, since another could not be opened. */
function stay(problem) {
  const wanted = `${page.task.selectedOptions[0].text} could not be opened`;
  problem.title = problem.title ? `${wanted}: ${problem.title}` : wanted;
  if (!task) return;
  page.task.value = task.name;
  history.replaceState(null, "", `#${task.name}`);
  const choice = page.about.querySelector("select");
  if (choice) choice.value = task.model.version;
  page.predict.disabled = false;
}

function about(task) {
  const { model } = task;
  const figures = Object.entries(task.metrics).map(([name, value]) => `${name.replaceAll("_", " ")} ${short(value)}`);
  return [
    task.description ? element("p", {}, task.description) : "",
    element("p", { class: "model" }, "Model ", element("strong", {}, model.name), ", version ", versions(task), `, ${task.precision}, exported ${task.created.slice(0, 10)}`),
    element(
      "details",
      {},
      element("summary", {}, "About this model"),
      figures.length ? element("p", {}, `Metrics on its test split: ${figures.join(", ")}.`) : null,
      element("pre", { class: "card", tabindex: "0", role: "region", "aria-label": "Model card" }, task.card),
    ),
  ];
}

/** Return the version, or the choice among several. */
function versions({ name, model, versions }) {
  if (versions.length < 2) return element("code", {}, model.version);
  const made = element("select", { "aria-label": "Version", onchange: () => open(name, made.value) });
  for (const each of versions) made.append(element("option", { value: each, selected: each === model.version }, each));
  return made;
}

// ---- cases ----

function fill(example) {
  takeBack();
  record.fill(example);
  clear();
  page.status.textContent = "";
  page.result.replaceChildren();
}

function empty() {
  fill({});
  page.result.replaceChildren(element("p", { class: "empty" }, "The record is empty."));
}

function show(example) {
  fill(example);
  return ask();
}

async function ask() {
  asking?.abort();
  asking = new AbortController();
  const { signal } = asking;
  clear();
  page.result.setAttribute("aria-busy", "true");
  say("Reading files\u2026");
  await record.complete();
  if (signal.aborted) return;
  fresh();
  say("Predicting\u2026");
  const before = changes;
  const sent = record.read();
  const percent = page.coverage.value.trim();
  const address = addressOf(task.name, share(percent), version);
  const command = curl(address, sent, record.pictures, hasKey());
  await attempt(async () => {
    const answer = await predict(address, sent, signal);
    page.result.replaceChildren(...answered(answer, task, { given: Object.keys(sent), coverage: percent, command, find }));
    page.status.textContent = summary(answer, task);
    page.status.classList.add("visually-hidden"); // those who see it see the answer
    answer.issues.forEach(note);
    if (changes !== before) stale();
    if (!visible(page.result.firstChild)) page.result.scrollIntoView({ block: "start" });
  });
  if (!signal.aborted) page.result.removeAttribute("aria-busy");
}

/** Say what the page waits for. */
function say(words) {
  page.status.textContent = words;
  page.status.classList.remove("stale", "visually-hidden");
}

/** Take back what was asked and is not answered yet. */
function takeBack() {
  asking?.abort();
  page.result.removeAttribute("aria-busy");
}

/** Return a share as the service takes it; what is no number stays what it is. */
function share(percent) {
  return percent && Number.isFinite(Number(percent)) ? String(Number((Number(percent) / 100).toPrecision(12))) : percent;
}

/** Mark the answer as one to another record than that which is on the page now. */
function stale() {
  changes += 1;
  if (!page.result.querySelector(".headline")) return;
  say("The record has changed since this prediction.");
  page.status.classList.add("stale");
  page.result.classList.add("stale");
}

function clear() {
  for (const each of [coverage, access]) each.clear();
  record?.clear();
  page.problem.replaceChildren();
  fresh();
}

/** Mark no longer that the record was changed. */
function fresh() {
  page.status.classList.remove("stale", "visually-hidden");
  page.result.classList.remove("stale");
}

// ---- what the service says ----

function find(path) {
  if (path === "coverage") return coverage;
  return record?.place(path);
}

function note(issue) {
  find(issue.field)?.show(...ofIssue(issue));
  record?.note(issue);
}

/** Act, or show the problem; `again`, where given, is offered to try once more. */
async function attempt(act, again) {
  try {
    await act();
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof ProblemError)) throw error;
    const { status } = error;
    const problem = worded(error.problem);
    page.status.textContent = "";
    page.result.replaceChildren();
    page.problem.replaceChildren(...failed(problem, find), ...(again ? [repeating(again)] : []));
    problem.issues?.forEach(note);
    const place = status === 401 || status === 403 ? access : problem.field ? find(problem.field) : undefined;
    place?.show(...ofProblem(problem));
    if (place) place.focus();
    else if (!visible(page.problem.firstChild)) page.problem.scrollIntoView({ block: "start" });
  }
}

/** Word a problem of the coverage in per cent, as its field has it. */
function worded(problem) {
  if (problem.field !== "coverage") return problem;
  const inPercent = (text) => (text ?? "").replace(/\d+(\.\d+)?/g, (share) => 100 * share);
  return { ...problem, detail: inPercent(problem.detail), seen: page.coverage.value, accepted: `${inPercent(problem.accepted)}, in percent` };
}

function repeating(act) {
  const again = () => {
    page.task.focus(); // the button goes with what it repeats
    act();
  };
  return element("div", { class: "choices" }, button("Try again", again));
}

function visible(shown) {
  const { top, bottom } = shown.getBoundingClientRect();
  return top >= 0 && bottom <= innerHeight;
}

// ---- hands ----

page.task.addEventListener("change", () => (location.hash = page.task.value));
addEventListener("hashchange", () => {
  const name = location.hash.slice(1);
  if (![...page.task.options].some((each) => each.value === name)) return;
  open(name);
});
page.case.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!page.predict.disabled) ask();
});
page.case.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) page.case.requestSubmit();
});
page.case.addEventListener("input", (event) => {
  if (event.target !== page.key) stale();
});
page.key.addEventListener("change", () => {
  useKey(page.key.value);
  if (task) renew();
  else start();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names the task
  document.getElementById("record").focus();
});
// A picture or a link that misses its place must not take the page with it; words may be dragged into a note.
for (const name of ["dragover", "drop"]) {
  addEventListener(name, (event) => {
    const words = !event.dataTransfer.types.includes("Files") && event.target.closest?.("textarea, input:not([type=file])");
    if (!words) event.preventDefault();
  });
}

start();
