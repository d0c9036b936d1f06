/**
 * The tasks of a job as cells, a hundred to a page. Only pages near the window are listened to and have cells: a job
 * of 50,000 tasks costs no more than what is looked at.
 */

import { html, render } from "lit-html";

import { TASKS_PER_PAGE, watchPage } from "../queries/pages.js";
import { cellOf } from "../statuses.js";
import { moveByArrows } from "./grid_keys.js";
import { openTooltip } from "./tooltip.js";

/**
 * What one page shows: nothing but its name while `page` is null.
 * @typedef {object} PageState
 * @property {string} words
 * @property {import("../queries/pages.js").Page | null} page
 * @property {string} marked
 * @property {string | null} waitsFor
 * @property {string} problem
 */

const LINGER_MS = 120; // a page that is only scrolled past is not read
const ROOMY_UP_TO = 200; // so many tasks have cells with their ids in them

/**
 * Show the grid; `onOpen` is called with the id of the task that is chosen. Returns how to mark and focus a task.
 * @param {HTMLElement} root
 * @param {import("../queries/database.js").Database} db
 * @param {{accountId: string, jobId: string, taskCount: number}} job
 * @param {(taskId: string) => void} onOpen
 */
export function openTaskGrid(root, db, job, onOpen) {
  const pages = Array.from({ length: Math.ceil(job.taskCount / TASKS_PER_PAGE) }, (_, number) =>
    openPage(db, job, number),
  );
  const byElement = new Map(pages.map((page) => [/** @type {Element} */ (page.element), page]));
  const sight = new IntersectionObserver(
    (entries) => entries.forEach((entry) => byElement.get(entry.target)?.see(entry.isIntersecting)),
    { rootMargin: "400px" },
  );
  const cell = (/** @type {string} */ taskId) => root.querySelector(`[data-task="${CSS.escape(taskId)}"]`);
  const stopTooltip = openTooltip(root);
  const stopArrows = moveByArrows(root);
  const open = (/** @type {Event} */ event) => {
    const chosen = event.target instanceof Element ? event.target.closest("[data-task]") : null;
    if (chosen instanceof HTMLElement && chosen.dataset.task) {
      onOpen(chosen.dataset.task);
    }
  };

  root.classList.toggle("is-roomy", job.taskCount <= ROOMY_UP_TO);
  root.replaceChildren(...pages.map((page) => page.element));
  root.addEventListener("click", open);
  pages.forEach((page) => sight.observe(page.element));

  return {
    /** Say why the job waits; null: for nothing. */
    explain(/** @type {string | null} */ waitsFor) {
      pages.forEach((page) => page.change({ waitsFor }));
    },
    /** Show which task is open beside the grid; an empty id: none. */
    mark(/** @type {string} */ taskId) {
      pages.forEach((page) => page.change({ marked: taskId }));
    },
    /** Scroll to where a task is, whether its cell is there yet or not. */
    reveal(/** @type {string} */ taskId) {
      const page = pages[Math.floor(Number(taskId) / TASKS_PER_PAGE)];
      page?.element.scrollIntoView({ block: "nearest" });
    },
    focus(/** @type {string} */ taskId) {
      /** @type {HTMLElement | null} */ (cell(taskId))?.focus();
    },
    stop() {
      sight.disconnect();
      stopTooltip();
      stopArrows();
      root.removeEventListener("click", open);
      pages.forEach((page) => page.see(false));
    },
  };
}

/**
 * @param {import("../queries/database.js").Database} db
 * @param {{accountId: string, jobId: string, taskCount: number}} job
 * @param {number} number
 */
function openPage(db, job, number) {
  const element = document.createElement("div");
  const first = number * TASKS_PER_PAGE;
  const count = Math.min(TASKS_PER_PAGE, job.taskCount - first);
  const words = `${String(first).padStart(3, "0")} – ${String(first + count - 1).padStart(3, "0")}`;
  let stop = () => {};
  let timer = 0;
  /** @type {PageState} */
  let state = { words, page: null, marked: "", waitsFor: null, problem: "" };

  element.className = "page";
  element.style.setProperty("--count", String(count));
  const change = (/** @type {Partial<PageState>} */ news) => {
    if (Object.entries(news).some(([key, value]) => state[/** @type {keyof PageState} */ (key)] !== value)) {
      state = { ...state, ...news };
      render(pageCells(state), element);
    }
  };
  const watch = () => {
    stop = watchPage(
      db,
      { ...job, number },
      (page) => change({ page }),
      (error) => change({ problem: error.message }),
    );
  };
  render(pageCells(state), element);

  return {
    element,
    change,
    see(/** @type {boolean} */ isNear) {
      clearTimeout(timer);
      if (isNear) {
        timer = setTimeout(watch, LINGER_MS);
        return;
      }
      stop();
      stop = () => {};
      change({ page: null });
    },
  };
}

/** @param {PageState} state */
function pageCells({ words, page, marked, waitsFor, problem }) {
  const taskIds = Object.keys(page?.statuses ?? {}).sort((a, b) => Number(a) - Number(b));
  return html`
    <h2>${words}</h2>
    <div class="cells" role="group" aria-label="Tasks ${words}">
      ${page ? taskIds.map((taskId) => taskCell(taskId, cellOf(page, taskId, waitsFor), taskId === marked)) : ""}
    </div>
    ${problem ? html`<p class="problem" role="alert">${problem}</p>` : ""}
  `;
}

/**
 * @param {string} taskId
 * @param {ReturnType<typeof cellOf>} cell
 * @param {boolean} isMarked
 */
function taskCell(taskId, { look, words }, isMarked) {
  return html`<button
    class="cell"
    tabindex="-1"
    data-task=${taskId}
    data-status=${look}
    aria-label=${words}
    aria-current=${isMarked ? "true" : "false"}
  >
    ${taskId}
  </button>`;
}
