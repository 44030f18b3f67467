// The graph by label: a box for all tasks of a label, an arrow for all that one label needs of
// another. Boxes stand in columns by how far they are from the beginning.
import { tasksOf } from "./overview.js";
import { store, TASKS_MAX } from "./store.js";
import { $, cell, count, duration, element, fill, head, stateCell, stateName,
  taskLink } from "./words.js";

const [WIDE, HIGH, GAP_X, GAP_Y] = [190, 64, 70, 22];
const byName = new Intl.Collator("en", { numeric: true }).compare;
const SVG = "http://www.w3.org/2000/svg";
const [SMALLEST, LARGEST] = [0.2, 3];
let last = "";
let zoom = 0; // 0 is what fits, as long as that can be read

export function prepare() {
  $("larger").addEventListener("click", () => scale(1.25));
  $("smaller").addEventListener("click", () => scale(0.8));
  $("fit").addEventListener("click", () => scale(0));
  $("drawing").addEventListener("keydown", (event) => {
    const factor = { "+": 1.25, "=": 1.25, "-": 0.8 }[event.key];
    if (factor && !event.ctrlKey && !event.metaKey) scale(factor);
  });
  $("drawing").addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return; // alone it scrolls the page
    event.preventDefault();
    scale(event.deltaY < 0 ? 1.1 : 1 / 1.1);
  }, { passive: false });
}

function scale(factor) {
  const drawn = $("drawing").querySelector("svg");
  if (!drawn) return;
  const [, , width, height] = drawn.getAttribute("viewBox").split(" ").map(Number);
  const fits = Math.min(1, Math.max(0.6, ($("drawing").clientWidth - 34) / width));
  if (factor) zoom = Math.min(LARGEST, Math.max(SMALLEST, (zoom || fits) * factor));
  else if (factor === 0) zoom = 0;
  drawn.setAttribute("width", width * (zoom || fits));
  drawn.setAttribute("height", height * (zoom || fits));
}

function svg(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export async function draw() {
  const answer = await fetch("/api/graph");
  if (!answer.ok) return;
  const text = await answer.text();
  if (text === last && $("drawing").firstChild) return;
  last = text;
  const graph = JSON.parse(text);
  graph.nodes.sort((a, b) => byName(a.label, b.label));
  const had = document.activeElement?.closest?.("#drawing a")?.getAttribute("href");
  $("drawing").replaceChildren(graph.nodes.length
    ? picture(graph) : element("p", { className: "note" }, "No task was seen yet."));
  scale();
  if (had) $("drawing").querySelector(`a[href="${CSS.escape(had)}"]`)?.focus();
  fill($("labels"), graph.nodes.map((node) => labelRow(node, graph.edges)));
  drawPath(graph);
  const left = [];
  if (store.tasks.size === TASKS_MAX) {
    left.push(`Of the ${count(TASKS_MAX)} tasks that changed last.`);
  }
  if (graph.nodes_more) left.push(`${count(graph.nodes_more)} more labels.`);
  if (graph.edges_more) left.push(`${count(graph.edges_more)} more edges.`);
  $("graph-more").textContent = left.join(" ");
}

function levels(graph) {
  const level = new Map(graph.nodes.map((node) => [node.label, 0]));
  // Longest paths; labels may form a circle, which the bound on rounds cuts.
  for (let round = 0; round < graph.nodes.length; round += 1) {
    let moved = false;
    for (const [source, target] of graph.edges) {
      if (level.get(target) <= level.get(source) && level.get(source) + 1 < graph.nodes.length) {
        level.set(target, level.get(source) + 1);
        moved = true;
      }
    }
    if (!moved) break;
  }
  // In a circle levels are far apart: no column is left empty.
  const used = [...new Set(level.values())].sort((a, b) => a - b);
  for (const [label, value] of level) level.set(label, used.indexOf(value));
  return level;
}

const tip = (id) => svg("marker", { id, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 10,
  markerHeight: 10, markerUnits: "userSpaceOnUse", orient: "auto" },
  svg("path", { d: "M0 0L8 4L0 8z" }));

function picture(graph) {
  const level = levels(graph);
  const columns = [];
  for (const node of graph.nodes) (columns[level.get(node.label)] ??= []).push(node);
  // An edge that passes columns has a place in each of them, below the boxes there.
  const passing = new Map();
  graph.edges.forEach((edge) => {
    const way = [];
    for (let at = level.get(edge[0]) + 1; at < level.get(edge[1]); at += 1) {
      const stop = { label: `${at} ${edge[0]} ${edge[1]}`, isStop: true };
      columns[at].push(stop);
      way.push(stop.label);
    }
    passing.set(edge, way);
  });
  const tallest = Math.max(...columns.map((column) => column.length));
  const height = tallest * (HIGH + GAP_Y) + 8;
  const width = columns.length * (WIDE + GAP_X) - GAP_X + 8;
  const place = new Map();
  columns.forEach((column, index) => {
    const top = (height - column.length * (HIGH + GAP_Y) + GAP_Y) / 2;
    column.forEach((node, row) => place.set(node.label,
      [4 + index * (WIDE + GAP_X), top + row * (HIGH + GAP_Y)]));
  });
  return svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`,
    role: "group", "aria-label": "The graph; the table below says the same" },
    svg("defs", {}, tip("tip"), tip("critical-tip")), ...graph.edges.map((edge) => arrow(edge, passing.get(edge), place)),
    ...graph.nodes.map((node) => box(node, place.get(node.label))));
}

function arrow([source, target, some, isCritical], stops, place) {
  const [x, y] = place.get(source);
  let [fromX, fromY] = [x + WIDE, y + HIGH / 2];
  let path = `M${fromX} ${fromY}`;
  for (const each of [...stops, target]) {
    const [toX, toY] = place.get(each);
    const [endX, endY] = [each === target ? toX - 2 : toX, toY + HIGH / 2];
    const bend = Math.max(30, Math.abs(endX - fromX) / 2);
    path += `C${fromX + bend} ${fromY} ${endX - bend} ${endY} ${endX} ${endY}`;
    [fromX, fromY] = [endX, endY];
    if (each !== target) path += `H${(fromX += WIDE)}`;
  }
  const tip = isCritical ? "critical-tip" : "tip";
  return svg("path", { class: isCritical ? "edge critical" : "edge", "marker-end": `url(#${tip})`,
    d: path },
    svg("title", {}, `${target} needs ${source}: ${count(some)} edges`
      + (isCritical ? ", on the critical path" : "")));
}

function box(node, [x, y]) {
  const parts = tasksOf(node);
  const all = parts.reduce((sum, [, some]) => sum + some, 0);
  const ended = node.states.succeeded;
  const failed = node.states.failed + node.states.lost + node.states.timed_out;
  const short = node.label.length > 24 ? `${node.label.slice(0, 23)}…` : node.label;
  const said = parts.map(([state, some]) => `${count(some)} ${stateName(state)}`).join(", ");
  let from = x + 10;
  const bars = parts.map(([state, some]) => {
    const wide = ((WIDE - 20) * some) / all;
    const part = svg("rect", { class: `part ${state}`, x: from, y: y + HIGH - 16, height: 7,
      width: Math.max(1, wide) });
    from += wide;
    return part;
  });
  const second = failed ? `${count(ended)} of ${count(all)} · ${count(failed)} failed`
    : `${count(ended)} of ${count(all)}`;
  return svg("a", { href: `#tasks/label/${encodeURIComponent(node.label)}`,
    class: `${failed ? "has-failed" : ""} ${node.critical ? "critical" : ""}`,
    "aria-label": `${node.label}: ${said}${node.critical ? "; on the critical path" : ""}` },
    svg("title", {}, `${node.label}: ${said}`),
    svg("rect", { class: "box", x, y, width: WIDE, height: HIGH, rx: 8 }),
    svg("text", { x: x + 10, y: y + 20 }, short),
    svg("text", { class: "small", x: x + 10, y: y + 37 }, second), ...bars);
}

function labelRow(node, edges) {
  const parts = tasksOf(node);
  const states = element("td", { className: "wrap" }, ...parts.flatMap(([state, some]) =>
    [element("span", { className: `state ${state}` }, `${count(some)} ${stateName(state)}`), " "]));
  const needs = edges.filter((edge) => edge[1] === node.label)
    .map(([source, , some]) => `${source} (${count(some)})`).join(", ");
  const link = element("a", { href: `#tasks/label/${encodeURIComponent(node.label)}` }, node.label);
  return element("tr", {}, head(link),
    cell(count(parts.reduce((sum, [, some]) => sum + some, 0)), "number"), states,
    cell(node.mean_s === null ? "–" : duration(node.mean_s), "number"),
    cell(needs || "–", "label"));
}

// What takes longest, step by step; and what failed, by name.
function drawPath(graph) {
  const longest = Math.max(1e-9, ...graph.path.map((step) => step.took_s));
  fill($("path"), graph.path.map((step) => {
    const bar = element("progress", { value: step.took_s / longest, max: 1, className: step.state });
    bar.setAttribute("aria-hidden", "true");
    return element("tr", {}, head(taskLink(step.id)), cell(step.label, "label"),
      stateCell(step.state), cell(duration(step.took_s), "number"), cell(bar, "bar-column"));
  }));
  const cut = graph.path_more ? ` Its last ${count(graph.path.length)} of `
    + `${count(graph.path.length + graph.path_more)} tasks are shown.` : "";
  $("path-text").textContent = graph.path.length
    ? `${duration(graph.path_s)} from end to end: no number of engines makes it shorter. What has `
      + `not ended yet counts as the mean of its label.${cut}` : "No task was seen yet.";
  $("failed-panel").hidden = !graph.failed.length;
  fill($("failed"), graph.failed.map((step) => element("tr", {}, head(taskLink(step.id)),
    cell(step.label, "label"), stateCell(step.state))));
  $("failed-more").textContent = graph.failed_more ? `${count(graph.failed_more)} more.` : "";
}
