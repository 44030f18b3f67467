// The table of tasks, with search and filter; and the page of one task.
import { STATES, store } from "./store.js";
import { $, cell, clock, count, duration, element, figures, fill, head, stateCell, stateName,
  taskLink } from "./words.js";

const ROWS_MAX = 200;

export function prepare(changed) {
  $("state").append(...STATES.map((state) =>
    element("option", { value: state }, stateName(state))));
  $("search").addEventListener("input", changed);
  $("state").addEventListener("change", changed);
  $("filter").addEventListener("submit", (event) => event.preventDefault());
  $("cancel").addEventListener("click", cancel);
}

// What the address asks for: #tasks/STATE or #tasks/label/LABEL.
export function filterBy(parts) {
  if (STATES.includes(parts[0])) $("state").value = parts[0];
  if (parts[0] === "label") {
    $("search").value = parts[1];
    $("state").value = "";
  }
}

export function draw() {
  const wanted = $("search").value.trim().toLowerCase();
  const state = $("state").value;
  const rows = [];
  let found = 0;
  for (const task of [...store.tasks.values()].reverse()) {
    if (state && task.state !== state) continue;
    if (wanted && !`${task.id} ${task.label} ${task.engine}`.toLowerCase().includes(wanted)) continue;
    found += 1;
    if (rows.length < ROWS_MAX) rows.push(row(task));
  }
  fill($("task-table"), rows);
  const more = [];
  if (found > ROWS_MAX) more.push(`${count(found - ROWS_MAX)} more match: narrow the search.`);
  if (!found) more.push("No task matches.");
  const unseen = store.overview?.tasks_more;
  if (unseen) more.push(`${count(unseen)} changes came too fast to be shown here.`);
  $("tasks-more").textContent = more.join(" ");
}

function row(task) {
  return element("tr", {}, head(taskLink(task.id)), cell(task.label, "label"),
    stateCell(task.state), cell(task.engine || "–"), cell(task.attempt, "number"),
    cell(clock(task.since_s)));
}

// --- one task -----------------------------------------------------------------------------------

let shown = "";

export async function drawTask(id) {
  if (shown !== id) {
    shown = id;
    $("cancelled").textContent = "";
    $("explain").textContent = "asking …";
  }
  const answer = await fetch(`/api/task/${encodeURIComponent(id)}`);
  if (shown !== id || !answer.headers.get("content-type")?.includes("json")) return;
  const task = await answer.json();
  $("task-title").textContent = task.label ? `Task ${id} · ${task.label}` : `Task ${id}`;
  $("explain").textContent = task.explain ?? task.error;
  $("cancel").disabled = !["waiting", "ready", "assigned", "running"].includes(task.state);
  const facts = task.state ? [
    ["State", stateName(task.state)], ["Engine", task.engine || "–"],
    ["Attempt", task.attempt], ["Client", task.client], ["Since", clock(task.since_s)],
  ] : [["State", "not among the tasks seen lately"]];
  if (task.upstreams?.length) {
    facts.push(["Needs", element("span", {}, ...task.upstreams.flatMap((each) =>
      [taskLink(each), " "]))]);
  }
  figures($("facts"), facts);
  fill($("attempts"), (task.runs ?? []).map(([engine, , began, took, returned]) =>
    element("tr", {}, head(engine), cell(clock(began)), cell(duration(took), "number"),
      stateCell(returned ? "succeeded" : "failed"))));
  $("no-runs").textContent = task.runs?.length ? "" : "No run of it was seen to end.";
}

async function cancel() {
  $("cancel").disabled = true;
  const answer = await fetch(`/api/task/${encodeURIComponent(shown)}/cancel`,
    { method: "POST", headers: { "X-Headway": "1" } });
  const text = answer.ok ? "The controller was asked to cancel it." : "It could not be cancelled.";
  $("cancelled").textContent = text;
}
