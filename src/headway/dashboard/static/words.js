// Numbers, times and elements, as every view needs them. Text is always text: nothing that a task
// is called is ever read as HTML.
const numbers = new Intl.NumberFormat("en");
export const count = (value) => numbers.format(value ?? 0);

export function bytes(value) {
  if (!value) return "–";
  const power = Math.min(4, Math.floor(Math.log2(value) / 10));
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const scaled = value / 1024 ** power;
  return `${scaled < 10 && power ? scaled.toFixed(1) : Math.round(scaled)} ${units[power]}`;
}

export function duration(seconds) {
  if (!(seconds > 0)) return "0 s";
  if (seconds < 1e-3) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${Math.round(seconds * 1e3)} ms`;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const [large, unit, small, rest] = seconds < 3600 ? [60, "min", 1, "s"] : [3600, "h", 60, "min"];
  const left = Math.floor((seconds % large) / small);
  return `${Math.floor(seconds / large)} ${unit}${left ? ` ${left} ${rest}` : ""}`;
}

export const rate = (value) => (value >= 100 ? count(Math.round(value)) : value.toFixed(1));
export const stateName = (state) => state.replace("_", " ");
export const clock = (wall) => new Date(wall * 1000).toLocaleTimeString();

export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

export const cell = (content, className = "") => element("td", { className }, content);
export const head = (content) => element("th", { scope: "row" }, content);
export const taskLink = (id) => element("a", { href: `#task/${id}` }, id);
export const stateCell = (state) =>
  element("td", {}, element("span", { className: `state ${state}` }, stateName(state)));

export function figures(list, pairs) {
  list.replaceChildren(...pairs.map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value))));
}

// New rows in the place of the old; the link that had the focus keeps it.
export function fill(table, rows) {
  const focused = table.contains(document.activeElement)
    ? document.activeElement.getAttribute("href") : null;
  table.tBodies[0].replaceChildren(...rows);
  if (focused) table.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
}

// A canvas as sharp as the screen; returns what to draw with, in CSS pixels.
export function canvas(id, height) {
  const made = document.getElementById(id);
  const width = made.clientWidth;
  const tall = height ?? made.clientHeight;
  const scale = window.devicePixelRatio || 1;
  made.width = width * scale;
  made.height = tall * scale;
  if (height) made.style.height = `${height}px`;
  const pen = made.getContext("2d");
  pen.scale(scale, scale);
  pen.font = "12px system-ui, sans-serif";
  const styles = getComputedStyle(document.documentElement);
  return { pen, width, height: tall, color: (name) => styles.getPropertyValue(`--${name}`) };
}

export const engineLink = (id) => element("a", { href: `#engine/${id}` }, id);

// What the server says when asked; null if that was no answer of its own, since it went on.
export async function ask(path) {
  const answer = await fetch(path);
  return answer.headers.get("content-type")?.includes("json") ? answer.json() : null;
}

// Has something done, and says in `told` what came of it. The button rests meanwhile.
export async function act(path, told, button) {
  button.disabled = true;
  told.textContent = "asking …";
  try {
    const answer = await fetch(path, { method: "POST", headers: { "X-Headway": "1" } });
    const said = await answer.json();
    told.textContent = said.text ?? said.error;
    told.className = answer.ok ? "told" : "told refused";
  } catch {
    told.textContent = "There was no answer: the dashboard does not run any more, perhaps.";
    told.className = "told refused";
  }
  button.disabled = false;
}

// Lines as they were printed: task, stream, text. One list item each, so that a reader counts them.
export function printed(list, lines, more, withTask = false) {
  const isAtEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 4;
  list.replaceChildren(...lines.map(([task, stream, text]) => element("li", { className: stream },
    ...(withTask && task ? [taskLink(task), " "] : []), text.replace(/\n$/, ""))));
  if (isAtEnd) list.scrollTop = list.scrollHeight;
  list.hidden = !lines.length;
  const note = list.nextElementSibling;
  note.textContent = lines.length ? "" : "Nothing was seen to be printed since a page is open.";
  if (more) note.textContent += ` ${count(more)} lines of the cluster came too fast to be shown.`;
}

export const $ = (id) => document.getElementById(id);
