// Overview: what the cluster does, and who does it.
import { STATES, store } from "./store.js";
import { $, bytes, canvas, cell, count, duration, element, engineLink, figures, fill, head, rate,
  stateName, taskLink } from "./words.js";

export function prepare() {
  $("why").addEventListener("toggle", () => $("why").open && explain());
}

// The whole cluster, in the controller's words: asked when it is opened.
async function explain() {
  $("why-text").textContent = "asking …";
  try {
    const answer = await fetch("/api/explain");
    $("why-text").textContent = (await answer.json()).explain;
  } catch {
    $("why-text").textContent = "The dashboard can't be asked.";
  }
}

export function draw() {
  const seen = store.overview;
  if (!seen) return;
  const live = ["waiting", "ready", "assigned", "running"];
  const open = live.reduce((sum, state) => sum + seen.states[state], 0);
  const now = store.history.slice(-8);
  const mean = now.length ? now.reduce((sum, point) => sum + point.rate, 0) / now.length : 0;
  figures($("figures"), [
    ["Unfinished", count(open)],
    ["Ended a second", rate(mean)],
    ["Submitted", count(seen.submitted)],
    ["Retried", count(seen.retried)],
    ["Crashed", count(seen.crashed)],
    ["Engines", count(seen.engines)],
    ["Memory", bytes(seen.rss_bytes)],
    ["Clients", count(seen.clients)],
  ]);
  drawThroughput();
  const all = STATES.reduce((sum, state) => sum + seen.states[state], 0);
  fill($("states"), STATES.map((state) => {
    const share = all ? seen.states[state] / all : 0;
    const bar = element("progress", { value: share, max: 1, className: state });
    bar.setAttribute("aria-label", `${stateName(state)}: ${Math.round(share * 100)} %`);
    const link = element("a", { href: `#tasks/${state}`, className: `state ${state}` },
      stateName(state));
    return element("tr", {}, head(link), cell(count(seen.states[state]), "number"),
      cell(live.includes(state) ? "" : count(seen.ended[state]), "number"), cell(bar));
  }));
  fill($("engines"), store.engines.map((engine) => engineRow(engine, seen.wall_s)));
  const left = [];
  if (seen.engines_more) left.push(`${count(seen.engines_more)} more.`);
  $("engines-more").replaceChildren(...left, ...(seen.gone.length ? ["Gone: ",
    ...seen.gone.slice(-8).flatMap((id) => [engineLink(id), " "])] : []));
}

function engineRow(engine, wall) {
  const limit = engine.limit ?? 0;
  const bar = element("progress", { value: limit ? Math.min(1, engine.load / limit) : 0, max: 1,
    className: "load" });
  bar.setAttribute("aria-hidden", "true");
  const load = element("td", {}, bar, `${engine.load} of ${engine.limit ?? "any"}`);
  const task = engine.task
    ? cell(element("span", {}, taskLink(engine.task), ` ${duration(wall - engine.since_s)}`))
    : cell("idle");
  const state = engine.state === "ready"
    ? cell("ready") : element("td", {}, element("span", { className: "state draining" }, "draining"));
  return element("tr", {}, head(engineLink(engine.id)), cell(`${engine.host} · ${engine.pid}`, "host"), state, load,
    cell(count(engine.done), "number"), cell(bytes(engine.rss_bytes), "number"), task);
}

function drawThroughput() {
  const { pen, width, height, color } = canvas("sparkline");
  const points = store.history;
  const most = Math.max(1, ...points.map((point) => point.rate));
  const last = points.at(-1);
  const text = last
    ? `Now ${rate(last.rate)}, at most ${rate(most)} a second in the last `
      + `${duration(last.wall_s - points[0].wall_s)}.` : "Nothing was seen yet.";
  $("throughput").textContent = text;
  $("sparkline").setAttribute("aria-label", `Throughput. ${text}`);
  pen.strokeStyle = color("line");
  pen.strokeRect(0.5, 0.5, width - 1, height - 1);
  if (!last) return;
  // What was seen fills the width, from half a minute up.
  const span = Math.min(300, Math.max(30, last.wall_s - points[0].wall_s));
  const x = (point) => width - 4 - ((last.wall_s - point.wall_s) / span) * (width - 8);
  const y = (point) => height - 4 - (point.rate / most) * (height - 12);
  const shown = points.filter((point) => last.wall_s - point.wall_s <= span);
  pen.beginPath();
  shown.forEach((point) => pen.lineTo(x(point), y(point)));
  pen.strokeStyle = color("accent");
  pen.lineWidth = 2;
  pen.lineJoin = "round";
  pen.stroke();
  pen.lineTo(x(last), height - 2);
  pen.lineTo(x(shown[0]), height - 2);
  pen.globalAlpha = 0.15;
  pen.fillStyle = color("accent");
  pen.fill();
}

export function tasksOf(row) {
  return STATES.map((state) => [state, row.states[state]]).filter(([, some]) => some);
}
