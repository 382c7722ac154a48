// The answer: prediction, contributions, issues, the request again, and the JSON itself.

import { contributions } from "./contribution.js";
import { button, element } from "./element.js";
import { ofIssue, ofProblem } from "./message.js";
import { inWords, prediction } from "./prediction.js";

/** Return what is shown of an answer; `given` names the parts that were sent, `find` gives the place of a path. */
export function answered(answer, task, { given, coverage, command, find }) {
  const { model } = answer;
  const exchanged = model.version === task.model.version ? "" : ". The model has been replaced since this page was opened: reload the page";
  const words = `${model.name} version ${model.version}${model.demo ? ", demo weights: predictions mean nothing" : ""}${exchanged}`;
  return [
    ...(answer.prediction ? said(answer, task, given, coverage) : [element("p", { class: "headline" }, "The model abstains."), element("p", {}, answer.reason ?? "")]),
    ...issues(answer.issues, find),
    repeat(command),
    element("details", {}, element("summary", {}, "Answer as JSON"), code(JSON.stringify(answer, null, 1), "Answer as JSON")),
    element("p", { class: "hint" }, words, element("br"), `Request ${answer.request_id}`),
  ];
}

function said(answer, task, given, coverage) {
  const { prediction: found, modalities } = answer;
  return [...prediction(found, task.label, coverage), ...contributions(modalities, found, task.label, given)];
}

/** Say an answer in one line, for those who hear the page. */
export function summary(answer, task) {
  const found = answer.prediction ? inWords(answer.prediction, task.label) : "the model abstains";
  const count = answer.issues.length;
  return `Predicted: ${found}. ${count ? `${count} issue${count > 1 ? "s" : ""}.` : "No issues."}`;
}

/** Return what is shown of a problem. */
export function failed(problem, find) {
  const [tone, ...words] = ofProblem(problem);
  return [
    element(
      "div",
      { class: `failure ${tone}` },
      element("h3", {}, problem.title),
      element("p", {}, problem.field ? jump(problem.field, find) : "", problem.field ? " " : "", ...words),
      problem.request_id ? element("p", { class: "hint" }, `Request ${problem.request_id}`) : null,
    ),
    ...(problem.issues?.length ? issues(problem.issues, find) : []),
  ];
}

function issues(found, find) {
  if (!found.length) return [element("p", { class: "missing" }, "No issues: every value was used unchanged.")];
  const list = found.map((each) => {
    const [tone, ...words] = ofIssue(each);
    return element("li", { class: tone }, each.field ? jump(each.field, find) : "", " ", ...words);
  });
  return [element("h3", {}, found.length === 1 ? "One issue" : `${found.length} issues`), element("ul", { class: "messages issues" }, ...list)];
}

/** Return a path, as a button where the page has its field. */
function jump(path, find) {
  return find(path) ? button(path, () => find(path)?.focus(), { class: "path" }) : element("code", {}, path);
}

function repeat(command) {
  const copied = element("span", { role: "status", class: "hint" });
  const shown = code(command, "Command line");
  const copy = button("Copy", async () => {
    try {
      await navigator.clipboard.writeText(command);
      copied.textContent = "copied";
    } catch {
      // Pages that came over plain HTTP from elsewhere may not write there.
      getSelection().selectAllChildren(shown);
      copied.textContent = "selected; press Ctrl+C or ⌘C to copy";
    }
  }, { class: "quiet" });
  return element("details", { open: true }, element("summary", {}, "The same request from the command line"), element("p", { class: "hint" }, "For a POSIX shell: Linux, macOS, WSL, Git Bash"), shown, element("div", { class: "choices" }, copy, copied));
}

function code(text, name) {
  return element("pre", { tabindex: "0", role: "region", "aria-label": name }, text);
}
