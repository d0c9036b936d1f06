/** The arrow keys in the task grid: one cell at a time is in the order of the Tab key, the arrows move from it. */

const STEPS = new Map([
  ["ArrowLeft", () => -1],
  ["ArrowRight", () => 1],
  ["ArrowUp", (/** @type {number} */ columns) => -columns],
  ["ArrowDown", (/** @type {number} */ columns) => columns],
]);

/**
 * Returns: stop().
 * @param {HTMLElement} root
 */
export function moveByArrows(root) {
  const stopping = new AbortController();
  /** @type {HTMLElement | null} */
  let current = null;
  const makeCurrent = (/** @type {HTMLElement} */ cell) => {
    current?.setAttribute("tabindex", "-1");
    current = cell;
    cell.setAttribute("tabindex", "0");
  };

  // Cells come and go while one scrolls: there must always be one that the Tab key can reach.
  const observer = new MutationObserver(() => {
    const first = root.querySelector("[data-task]");
    if (!current?.isConnected && first instanceof HTMLElement) {
      makeCurrent(first);
    }
  });
  observer.observe(root, { childList: true, subtree: true });

  root.addEventListener(
    "focusin",
    ({ target }) => {
      if (target instanceof HTMLElement && target.dataset.task) {
        makeCurrent(target);
      }
    },
    stopping,
  );
  root.addEventListener(
    "keydown",
    (event) => {
      const step = STEPS.get(event.key);
      const cell = event.target;
      if (!step || !(cell instanceof HTMLElement) || !cell.dataset.task) {
        return;
      }
      event.preventDefault();
      const cells = [...root.querySelectorAll("[data-task]")];
      const next = cells[cells.indexOf(cell) + step(columnCount(cell))];
      if (next instanceof HTMLElement) {
        next.focus();
      }
    },
    stopping,
  );
  return () => {
    observer.disconnect();
    stopping.abort();
  };
}

/** @param {HTMLElement} cell */
function columnCount(cell) {
  const row = /** @type {HTMLElement} */ (cell.parentElement);
  return getComputedStyle(row).gridTemplateColumns.split(" ").length;
}
