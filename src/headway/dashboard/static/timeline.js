// The timeline: a lane an engine, what it ran and when.
import { store } from "./store.js";
import { $, canvas, cell, clock, count, duration, element, engineLink, fill, head } from "./words.js";

const LANE = 30;
const LANES_MAX = 60;
let boxes = []; // what is drawn where: [x, y, width, task, text]

export function prepare(changed) {
  $("span").addEventListener("change", changed);
  $("span-form").addEventListener("submit", (event) => event.preventDefault());
  $("lanes").addEventListener("mousemove", (event) => {
    $("pointed").textContent = boxAt(event)?.[4] ?? "";
  });
  $("lanes").addEventListener("click", (event) => {
    const box = boxAt(event);
    if (box) location.hash = `#task/${box[3]}`;
  });
}

function boxAt(event) {
  const { left, top } = $("lanes").getBoundingClientRect();
  const [x, y] = [event.clientX - left, event.clientY - top];
  return boxes.findLast((box) =>
    x >= box[0] - 1 && x <= box[0] + box[2] + 1 && y >= box[1] && y <= box[1] + LANE - 8);
}

export function draw() {
  const seen = store.overview;
  if (!seen) return;
  const span = Number($("span").value);
  const until = seen.wall_s;
  const lanes = new Map(store.engines.map((engine) => [engine.id, []]));
  for (const run of store.runs) {
    if (run[2] + run[3] < until - span) continue;
    if (!lanes.has(run[0])) lanes.set(run[0], []); // it has gone since
    lanes.get(run[0]).push(run);
  }
  const order = [...lanes.keys()].sort((a, b) => Number(a.slice(1)) - Number(b.slice(1)));
  drawLanes(order.slice(0, LANES_MAX), lanes, until, span);
  fill($("busy"), order.map((engine) => busyRow(engine, lanes.get(engine), until, span)));
  const left = [];
  if (order.length > LANES_MAX) left.push(`${count(order.length - LANES_MAX)} more engines.`);
  if (seen.runs_more) left.push(`${count(seen.runs_more)} runs came too fast to be shown.`);
  $("runs-more").textContent = left.join(" ");
}

// When what is on an engine now began: it queued there while the one before ran. `until` if
// nothing has been on it for long.
function currentBegan(engine, runs, until) {
  if (!engine?.task) return until;
  const last = runs.at(-1);
  const began = Math.max(engine.since_s, last ? last[2] + last[3] : 0);
  return until - began > 0.05 ? began : until;
}

function busyRow(engine, runs, until, span) {
  const now = store.engines.find((each) => each.id === engine);
  const current = until - Math.max(until - span, currentBegan(now, runs, until));
  const busy = current + runs.reduce((sum, [, , began, took]) =>
    sum + Math.max(0, Math.min(until, began + took) - Math.max(until - span, began)), 0);
  const name = element("span", {}, engineLink(engine), now ? "" : " (gone)");
  return element("tr", {}, head(name),
    cell(count(runs.length), "number"),
    cell(count(runs.filter((run) => !run[4]).length), "number"),
    cell(`${Math.round(Math.min(1, busy / span) * 100)} %`, "number"));
}

function drawLanes(order, lanes, until, span) {
  const { pen, width, color } = canvas("lanes", order.length * LANE + 26);
  const left = 46;
  const x = (wall) => left + Math.max(0, 1 - (until - wall) / span) * (width - left - 4);
  boxes = [];
  pen.textBaseline = "middle";
  const now = new Map(store.engines.map((engine) => [engine.id, engine]));
  order.forEach((engine, index) => {
    const y = index * LANE + 4;
    pen.fillStyle = color("back");
    pen.fillRect(left, y, width - left - 4, LANE - 8);
    pen.fillStyle = color(now.has(engine) ? "text" : "soft");
    pen.fillText(now.has(engine) ? engine : `${engine} †`, 4, y + (LANE - 8) / 2);
    const put = (began, ended, fill, task, text) => {
      const from = x(began);
      const wide = Math.max(2, x(ended) - from - (x(ended) - from > 4 ? 1 : 0));
      pen.fillStyle = fill;
      pen.fillRect(from, y, wide, LANE - 8);
      boxes.push([from, y, wide, task, text]);
    };
    // What did not return is drawn last, so that no neighbour of it hides it.
    const runs = [...lanes.get(engine)].sort((a, b) => Number(b[4]) - Number(a[4]));
    for (const [, task, began, took, returned] of runs) {
      const label = store.tasks.get(task)?.label ?? "";
      const end = returned ? "returned" : "did not return";
      put(began, began + took, color(returned ? "succeeded" : "failed"), task,
        `${engine}: ${task} ${label}, began ${clock(began)}, took ${duration(took)}, ${end}`);
    }
    const task = now.get(engine)?.task;
    const began = currentBegan(now.get(engine), lanes.get(engine), until);
    if (began < until) {
      put(began, until, color("running"), task,
        `${engine}: ${task} ${store.tasks.get(task)?.label ?? ""}, for ${duration(until - began)}`);
    }
  });
  pen.fillStyle = color("soft");
  const y = order.length * LANE + 14;
  pen.fillText(`−${duration(span)}`, left, y);
  pen.textAlign = "right";
  pen.fillText("now", width - 4, y);
  pen.textAlign = "left";
}
