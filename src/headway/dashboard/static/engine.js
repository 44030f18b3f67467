// The page of one engine: what it has, ran, printed and takes; and what may be done with it.
import { $, act, ask, bytes, canvas, cell, clock, count, duration, element, figures, fill, head,
  printed, stateCell, taskLink } from "./words.js";

let shown = "";

export function prepare() {
  for (const what of ["drain", "stop", "restart"]) {
    $(what).addEventListener("click", () =>
      act(`/api/engine/${encodeURIComponent(shown)}/${what}`, $("engine-told"), $(what)));
  }
}

export async function draw(id) {
  if (shown !== id) {
    shown = id;
    $("engine-told").textContent = "";
    $("engine-title").textContent = `Engine ${id}`;
  }
  const engine = await ask(`/api/engine/${encodeURIComponent(id)}`);
  if (shown !== id || !engine) return;
  const isHere = !engine.error && !engine.gone_s;
  for (const what of ["drain", "stop", "restart"]) $(what).disabled = !isHere;
  $("drain").disabled ||= engine.state === "draining";
  $("engine-note").textContent = engine.error
    ?? (engine.gone_s ? `It left, and was seen to be gone at ${clock(engine.gone_s)}.` : "");
  $("engine-body").hidden = Boolean(engine.error);
  if (engine.error) return;
  const resources = Object.entries(engine.resources).map(([name, amount]) => `${name} ${amount}`);
  figures($("engine-facts"), [
    ["State", isHere ? engine.state : "gone"],
    ["Load", isHere ? `${engine.load} of ${engine.limit ?? "any"}` : "–"],
    ["Done", count(engine.done)],
    ["Memory", bytes(engine.rss_bytes)],
    ["Host", engine.host],
    ["Process", engine.pid],
    ["Resources", resources.join(", ") || "none"],
  ]);
  fill($("has"), isHere ? [engine.task, ...engine.prefetched].filter(Boolean).map((task, place) =>
    element("tr", {}, head(taskLink(task)), cell(engine.labels[task] || "–", "label"),
      cell(place ? `prefetched, ${place}.` : "runs, or is next"),
      cell(place ? "–" : duration(engine.wall_s - engine.since_s), "number"))) : []);
  const more = engine.load - 1 - engine.prefetched.length;
  $("has-more").textContent = !engine.task || !isHere ? "It has no task."
    : more > 0 ? `${count(more)} more are prefetched.` : "";
  drawMemory(engine.memory);
  printed($("engine-lines"), engine.lines, engine.lines_more, true);
  fill($("history"), engine.runs.map(([, task, began, took, returned, label]) =>
    element("tr", {}, head(taskLink(task)), cell(label || "–", "label"), cell(clock(began)),
      cell(duration(took), "number"), stateCell(returned ? "returned" : "raised"))));
  $("no-history").textContent = engine.runs.length ? "" : "No run was seen to end here.";
}

function drawMemory(points) {
  const { pen, width, height, color } = canvas("memory");
  const most = Math.max(1, ...points.map(([, used]) => used));
  const text = points.length ? `Now ${bytes(points.at(-1)[1])}, at most ${bytes(most)} in the last `
    + `${duration(points.at(-1)[0] - points[0][0])}.` : "";
  $("memory-text").textContent = text;
  $("memory").setAttribute("aria-label", `Memory of this engine. ${text}`);
  pen.strokeStyle = color("line");
  pen.beginPath();
  pen.moveTo(0, height - 0.5);
  pen.lineTo(width, height - 0.5);
  pen.stroke();
  if (points.length < 2) return;
  const [from, until] = [points[0][0], Math.max(points.at(-1)[0], points[0][0] + 30)];
  const x = ([wall]) => ((wall - from) / (until - from)) * (width - 4) + 2;
  const y = ([, used]) => height - 3 - (used / most) * (height - 10);
  pen.beginPath();
  points.forEach((point) => pen.lineTo(x(point), y(point)));
  pen.strokeStyle = color("accent");
  pen.lineWidth = 2;
  pen.lineJoin = "round";
  pen.stroke();
  pen.lineTo(x(points.at(-1)), height);
  pen.lineTo(x(points[0]), height);
  pen.globalAlpha = 0.12;
  pen.fillStyle = color("accent");
  pen.fill();
}
