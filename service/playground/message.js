// What the service says of a value, shown where the value stands.

import { element } from "./element.js";

/** Return the list for the messages about a control, which is described by its id: `ID-messages`. */
export function messages(id) {
  return element("ul", { id: `${id}-messages`, class: "messages" });
}

/** Where messages about one control are shown. */
export class Place {
  /** `list` holds the messages; `control` is marked and focused; `reveal` makes both visible. */
  constructor(control, list, reveal = () => {}) {
    this.control = control;
    this.list = list;
    this.reveal = reveal;
  }

  show(...content) {
    this.reveal();
    this.list.append(element("li", { class: content[0] }, ...content.slice(1)));
    this.control.classList.add("noted");
    if (content[0] === "problem") this.control.setAttribute("aria-invalid", "true");
  }

  clear() {
    this.list.replaceChildren();
    this.control.classList.remove("noted");
    this.control.removeAttribute("aria-invalid");
  }

  focus() {
    this.reveal();
    this.control.focus();
    this.control.scrollIntoView({ block: "center" });
  }
}

/** Return what is shown of an issue: its tone, then its words. */
export function ofIssue(issue) {
  const detail = issue.detail ? ` \u2192 ${issue.detail}` : "";
  const words = issue.action === "dropped" && issue.detail ? `; accepted: ${issue.detail}` : detail;
  return [
    issue.action,
    element("strong", {}, capital(issue.action)),
    ` ${said(issue.seen)}${words} `,
    element("code", {}, issue.code),
  ];
}

/** Return what is shown of a problem: its tone, then its words. */
export function ofProblem(problem) {
  const seen = problem.seen === null || problem.seen === undefined ? "" : `: ${said(problem.seen)}`;
  const accepted = problem.accepted ? `. Accepted: ${problem.accepted}` : "";
  return [
    "problem",
    element("strong", {}, capital(problem.detail)),
    `${seen}${accepted} `,
    element("code", {}, problem.code),
  ];
}

function said(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
