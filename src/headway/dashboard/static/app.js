// The page: which view is shown, and when it is drawn.
import * as graph from "./graph.js";
import * as overview from "./overview.js";
import { listen, store } from "./store.js";
import * as tasks from "./tasks.js";
import * as timeline from "./timeline.js";
import { $ } from "./words.js";

const VIEWS = ["overview", "tasks", "task", "timeline", "graph"];
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
  const drawn = view === "graph" ? graph.draw() : tasks.drawTask(parts[0]);
  drawn.catch(() => connected(false)); // the server has gone; the stream tells when it is back
}

function changed() {
  if (isDue || isPaused) return;
  isDue = true;
  requestAnimationFrame(draw);
}

function connected(is) {
  $("connection").textContent = is ? "live" : "no connection to the dashboard";
  $("connection").className = is ? "live" : "lost";
}

function go() {
  const [name, ...rest] = location.hash.slice(1).split("/").map(decodeURIComponent);
  if (name === "main") return; // the way past the menu
  view = VIEWS.includes(name) ? name : "overview";
  parts = rest;
  if (view === "tasks") tasks.filterBy(parts);
  for (const each of VIEWS) $(each).hidden = each !== view;
  for (const link of document.querySelectorAll("nav a")) {
    const is = link.hash === `#${view}` || (view === "task" && link.hash === "#tasks");
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
graph.prepare();
overview.prepare();
tasks.prepare(draw);
timeline.prepare(draw);
window.addEventListener("hashchange", go);
window.addEventListener("resize", changed);
setInterval(() => view === "task" && changed(), ASK_MS); // its explanation changes with time
go();
listen(changed, connected);
