// The table of tasks, with search and filter; and the page of one task.
import { STATES, store } from "./store.js";
import { $, act, ask, canvas, cell, clock, count, duration, element, engineLink, figures, fill,
  head, printed, stateCell, stateName, taskLink } from "./words.js";

const ROWS_MAX = 200;

export function prepare(changed) {
  $("state").append(...STATES.map((state) =>
    element("option", { value: state }, stateName(state))));
  $("search").addEventListener("input", changed);
  $("state").addEventListener("change", changed);
  $("filter").addEventListener("submit", (event) => event.preventDefault());
  $("mosaic").addEventListener("mousemove", (event) => {
    const task = cellAt(event);
    $("mosaic-pointed").textContent = task
      ? `${task.id} ${task.label}: ${stateName(task.state)}` : "";
  });
  $("mosaic").addEventListener("click", (event) => {
    const task = cellAt(event);
    if (task) location.hash = `#task/${task.id}`;
  });
  for (const what of ["cancel", "retry"]) {
    $(what).addEventListener("click", () =>
      act(`/api/task/${encodeURIComponent(shown)}/${what}`, $("task-told"), $(what)));
  }
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
  const matching = [];
  let found = 0;
  for (const task of [...store.tasks.values()].reverse()) {
    if (state && task.state !== state) continue;
    if (wanted && !`${task.id} ${task.label} ${task.engine}`.toLowerCase().includes(wanted)) continue;
    found += 1;
    if (rows.length < ROWS_MAX) rows.push(row(task));
    matching.push(task);
  }
  mosaic(matching);
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
    stateCell(task.state), cell(task.engine ? engineLink(task.engine) : "–"),
    cell(task.attempt, "number"),
    cell(clock(task.since_s)));
}

// --- every task that matches, a cell each ---------------------------------------------------------

let cells = { tasks: [], side: 1, across: 1 };
const numberOf = (id) => id.split("-").map(Number);

function mosaic(tasks) {
  $("mosaic-panel").hidden = tasks.length < 2;
  if (tasks.length < 2) return;
  // Sorted by their numbers, so that a cell stays where it is while states change.
  const keyed = tasks.map((task) => [numberOf(task.id), task]);
  keyed.sort(([a], [b]) => a[0] - b[0] || a[1] - b[1]);
  const many = tasks.length;
  const side = many <= 600 ? 14 : many <= 2500 ? 9 : 6;
  const across = Math.max(1, Math.floor($("mosaic").clientWidth / side));
  const { pen, color } = canvas("mosaic", Math.ceil(many / across) * side);
  const colors = Object.fromEntries(STATES.map((state) => [state, color(state)]));
  keyed.forEach(([, task], index) => {
    pen.fillStyle = colors[task.state];
    pen.fillRect((index % across) * side, Math.floor(index / across) * side, side - 1, side - 1);
  });
  cells = { tasks: keyed.map(([, task]) => task), side, across };
  const some = STATES.map((state) => [state, tasks.filter((task) => task.state === state).length])
    .filter(([, number]) => number);
  $("mosaic-legend").replaceChildren(...some.flatMap(([state, number]) =>
    [element("span", { className: `state ${state}` }, `${count(number)} ${stateName(state)}`), " "]));
}

function cellAt(event) {
  const { left, top } = $("mosaic").getBoundingClientRect();
  const column = Math.floor((event.clientX - left) / cells.side);
  const line = Math.floor((event.clientY - top) / cells.side);
  return column < cells.across ? cells.tasks[line * cells.across + column] : undefined;
}

// --- one task -----------------------------------------------------------------------------------

const LIVE = ["waiting", "ready", "assigned", "running"];
const RETRIABLE = ["failed", "lost", "timed_out"];
let shown = "";

export async function drawTask(id) {
  if (shown !== id) {
    shown = id;
    $("task-told").textContent = "";
    $("task-title").textContent = `Task ${id}`;
    $("explain").textContent = "asking …";
  }
  const task = await ask(`/api/task/${encodeURIComponent(id)}`);
  if (shown !== id || !task) return;
  $("task-title").textContent = task.label ? `Task ${id} · ${task.label}` : `Task ${id}`;
  $("explain").textContent = task.explain ?? task.error;
  $("explain").className = `explain ${task.state ?? ""}`;
  $("cancel").hidden = !LIVE.includes(task.state);
  $("retry").hidden = $("retry-note").hidden = !RETRIABLE.includes(task.state);
  const facts = task.state ? [
    ["State", element("span", { className: `state ${task.state}` }, stateName(task.state))],
    ["Engine", task.engine ? engineLink(task.engine) : "–"],
    ["Attempt", task.attempt], ["Client", task.client], ["Since", clock(task.since_s)],
  ] : [["State", "not among the tasks seen lately"]];
  if (task.upstreams?.length) {
    facts.push(["Needs", element("span", {}, ...task.upstreams.flatMap((each) =>
      [taskLink(each), " "]))]);
  }
  figures($("facts"), facts);
  $("raised").hidden = !task.traceback;
  $("traceback").textContent = task.traceback ?? "";
  fill($("attempts"), (task.runs ?? []).map(([engine, , began, took, returned]) =>
    element("tr", {}, head(engineLink(engine)), cell(clock(began)), cell(duration(took), "number"),
      stateCell(returned ? "returned" : "raised"))));
  $("no-runs").textContent = task.runs?.length ? "" : "No run of it was seen to end.";
  printed($("task-lines"), task.lines ?? [], task.lines_more);
}
