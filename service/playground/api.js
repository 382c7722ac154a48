// The service, as the page asks it: its public addresses and nothing else.

const BASE = document.baseURI.replace(/[?#].*$/, "");
let key = "";

/** An answer that is a problem, or no answer. */
export class ProblemError extends Error {
  constructor(problem, status = 0) {
    super(problem.detail);
    this.problem = problem;
    this.status = status;
  }
}

/** Send a key from now on; it is kept nowhere else. */
export function useKey(text) {
  key = text.trim();
}

export function hasKey() {
  return key !== "";
}

/** Return the address of a prediction; without a version, of the newest. */
export function addressOf(task, coverage, version) {
  const address = new URL(`predict/${encodeURIComponent(task)}`, BASE);
  address.search = new URLSearchParams({ explain: "true", coverage, ...(version && { version }) });
  return address.href;
}

export async function listTasks() {
  return (await ask(new URL("tasks", BASE))).tasks;
}

/** Ask what a task takes; `signal` takes the question back. */
export function describeTask(name, version, signal) {
  const address = new URL(`tasks/${encodeURIComponent(name)}`, BASE);
  if (version) address.searchParams.set("version", version);
  return ask(address, { signal });
}

/** Ask for a prediction; `signal` takes the question back. */
export function predict(address, record, signal) {
  const body = JSON.stringify(record);
  return ask(address, { method: "POST", body, signal, headers: { "Content-Type": "application/json" } });
}

async function ask(address, { headers = {}, ...options } = {}) {
  const all = key ? { ...headers, Authorization: `Bearer ${key}` } : headers;
  let answer;
  try {
    answer = await fetch(address, { ...options, headers: all });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ProblemError({ title: "The service cannot be reached", detail: "there was no answer", code: "unreachable" });
  }
  const body = await answer.json().catch((error) => {
    if (error.name === "AbortError") throw error;
    return null;
  });
  if (answer.ok && body !== null) return body;
  // What stands before a service may answer in its place, with JSON of its own.
  const problem = body?.title && body.detail ? body : { title: "The service failed", detail: `status ${answer.status}`, code: "no_problem" };
  const wait = answer.headers.get("Retry-After");
  if (wait) problem.detail += `; try again in ${wait} s`;
  throw new ProblemError(problem, answer.status);
}
