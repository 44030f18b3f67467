// What the page knows: what the server's stream said, merged, and as bounded as there.
export const STATES = ["waiting", "ready", "assigned", "running", "succeeded", "failed",
  "impossible", "timed_out", "cancelled", "lost"];
export const TASKS_MAX = 10_000;
const RUNS_MAX = 10_000;
const HISTORY_MAX = 1_200;

export const store = {
  version: 0,
  tasks: new Map(), // in the order of their last change
  runs: [], // [engine, task, began, took, returned]
  history: [],
  engines: [],
  overview: null,
  trouble: "",
};

export function merge(news) {
  if (news.is_whole) {
    store.tasks.clear();
    store.runs = [];
    store.history = [];
  }
  for (const task of news.tasks) {
    store.tasks.delete(task.id);
    store.tasks.set(task.id, task);
  }
  for (const id of store.tasks.keys()) {
    if (store.tasks.size <= TASKS_MAX) break;
    store.tasks.delete(id);
  }
  store.runs = store.runs.concat(news.runs).slice(-RUNS_MAX);
  store.history = store.history.concat(news.history).slice(-HISTORY_MAX);
  store.version = news.version;
  store.trouble = news.trouble;
  if (news.overview) {
    store.overview = news.overview;
    store.engines = news.engines;
  }
}

const HIDDEN_MS = 10_000; // a page that nobody sees for so long lets go of the stream

// The stream; a browser opens it again by itself when it breaks, and is then told everything. It is
// closed while the page is hidden, so that a tab that was left open costs the cluster nothing.
export function listen(changed, connected) {
  let source = null;
  let timer = 0;
  const open = () => {
    if (source) return;
    source = new EventSource("/api/stream");
    source.onopen = () => connected(true);
    source.onerror = () => connected(false);
    source.onmessage = (event) => {
      merge(JSON.parse(event.data));
      changed();
    };
  };
  const close = () => {
    source?.close();
    source = null;
    connected(false, "not looked at");
  };
  const look = () => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(close, HIDDEN_MS);
    else open();
  };
  document.addEventListener("visibilitychange", look);
  look();
}
