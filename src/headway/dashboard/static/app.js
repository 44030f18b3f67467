// The page: which view is shown, and when it is drawn.
import * as engine from "./engine.js";
import * as graph from "./graph.js";
import * as overview from "./overview.js";
import { listen, store } from "./store.js";
import * as tasks from "./tasks.js";
import * as timeline from "./timeline.js";
import { $ } from "./words.js";

const VIEWS = ["overview", "tasks", "task", "engine", "timeline", "graph"];
const PARENTS = { task: "tasks", engine: "overview" }; // of which view a page is a part
const ASK_MS = 1_000; // what the server has to be asked for is asked no more often

let view = "overview";
let parts = [];
let isPaused = false;
let isDue = false;
let askedAt = 0;

function draw() {
  isDue = false;
  $("trouble").hidden = !store.trouble;
  $("trouble").textContent = store.trouble && `The cluster can't be seen: ${store.trouble}`;
  if (view === "overview") overview.draw();
  else if (view === "tasks") tasks.draw();
  else if (view === "timeline") timeline.draw();
  else ask();
}

// The views for which the stream is not enough.
function ask() {
  const now = performance.now();
  if (now - askedAt < ASK_MS) return;
  askedAt = now;
  const drawn = view === "graph" ? graph.draw()
    : view === "engine" ? engine.draw(parts[0]) : tasks.drawTask(parts[0]);
  drawn.catch(() => connected(false)); // the server has gone; the stream tells when it is back
}

function changed() {
  if (isDue || isPaused) return;
  isDue = true;
  requestAnimationFrame(draw);
}

function connected(is, why = "no connection to the dashboard") {
  $("connection").textContent = is ? "live" : why;
  $("connection").className = is ? "live" : "lost";
}

function go() {
  const [name, ...rest] = location.hash.slice(1).split("/").map(decodeURIComponent);
  if (name === "main") return; // the way past the menu
  view = VIEWS.includes(name) ? name : "overview";
  parts = rest;
  if (view === "tasks") tasks.filterBy(parts);
  if (!parts.length && (view === "task" || view === "engine")) view = PARENTS[view];
  for (const each of VIEWS) $(each).hidden = each !== view;
  for (const link of document.querySelectorAll("nav a")) {
    const is = link.hash === `#${PARENTS[view] ?? view}`;
    if (is) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `headway · ${view}`;
  askedAt = 0;
  draw();
}

$("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  $("pause").setAttribute("aria-pressed", String(isPaused));
  $("pause").textContent = isPaused ? "Paused" : "Pause";
  changed();
});
engine.prepare();
graph.prepare();
overview.prepare();
tasks.prepare(draw);
timeline.prepare(draw);
window.addEventListener("hashchange", go);
window.addEventListener("resize", changed);
// What the stream does not tell changes with time.
setInterval(() => (view === "task" || view === "engine") && !document.hidden && changed(), ASK_MS);
go();
listen(changed, connected);

// By keyboard: a digit leads to a view, / to the search, Escape back to the list.
const KEYS = { 1: "#overview", 2: "#tasks", 3: "#timeline", 4: "#graph" };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, select, textarea")) return;
  if (KEYS[event.key]) location.hash = KEYS[event.key];
  else if (event.key === "Escape" && PARENTS[view]) location.hash = `#${PARENTS[view]}`;
  else if (event.key === "/") {
    event.preventDefault();
    location.hash = "#tasks";
    requestAnimationFrame(() => setTimeout(() => $("search").focus()));
  }
});
