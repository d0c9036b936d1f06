/** The words for what a job or a task is doing. The server decides; here they are only named and put in order. */

/**
 * @typedef {"success" | "downloaded" | "running" | "pending" | "holding" | "preempted" | "failed" | "killed"} TaskStatus
 */

/** In the order of a progress bar: what is done, what moves, what waits, what went wrong.
 * @type {readonly TaskStatus[]} */
export const TASK_STATUSES = [
  "downloaded",
  "success",
  "running",
  "pending",
  "holding",
  "preempted",
  "failed",
  "killed",
];

/** What the list of jobs can be narrowed to; no statuses means all of them. */
export const JOB_GROUPS = [
  { name: "all", label: "All", statuses: [] },
  {
    name: "active",
    label: "Active",
    statuses: [
      "upload_pending",
      "uploading",
      "sync_pending",
      "syncing",
      "pending",
      "holding",
      "running",
    ],
  },
  { name: "done", label: "Done", statuses: ["success", "downloaded"] },
  { name: "failed", label: "Failed", statuses: ["failed", "sync_failed", "preempted"] },
  { name: "killed", label: "Killed", statuses: ["killed"] },
];

const REASONS = new Map([
  ["hold", "held"],
  ["scout", "waits for scouts"],
  ["upload", "waits for uploads"],
  ["sync", "waits for inputs"],
  ["admission", "its turn is next"],
  ["limit", "limit reached"],
  ["budget", "budget reached"],
  ["licence", "no licence free"],
  ["zone_off", "zone switched off"],
  ["quota", "quota reached"],
  ["stock_out", "no machines in stock"],
  ["boot", "machine is booting"],
  ["scheduler", "at the scheduler"],
]);

/**
 * Return a status or an outcome in plain words: `sync_failed` is "sync failed".
 * @param {string} status
 */
export function statusWords(status) {
  return status.replaceAll("_", " ");
}

/**
 * Return in a few words why something waits; a code that is not known here is shown as it is.
 * @param {string} code
 */
export function reasonWords(code) {
  return REASONS.get(code) ?? statusWords(code);
}

/**
 * Return how many tasks have ended well.
 * @param {import("./queries/jobs.js").Counts} counts
 */
export function doneCount(counts) {
  return (counts.success ?? 0) + (counts.downloaded ?? 0);
}

/**
 * Return the statuses that at least one task has, in order, each with its count.
 * @param {import("./queries/jobs.js").Counts} counts
 * @returns {{status: TaskStatus, count: number}[]}
 */
export function presentCounts(counts) {
  return TASK_STATUSES.map((status) => ({ status, count: counts[status] ?? 0 })).filter(
    ({ count }) => count > 0,
  );
}

/** What a task that is at the scheduler may wait for, besides the scheduler. */
const FOR_MACHINES = ["boot", "zone_off", "quota", "stock_out"];

/**
 * Return what a cell of the task grid says: its look, why its task waits if it does, and the words of its label.
 *
 * A task that was given to the scheduler waits there, or for its machine; the others wait for the reason of their
 * page, or of the whole job where the page has none of its own.
 * @param {import("./queries/pages.js").Page} page
 * @param {string} taskId
 * @param {string | null} jobWaitsFor
 */
export function cellOf(page, taskId, jobWaitsFor) {
  const status = /** @type {TaskStatus} */ (page.statuses[taskId]);
  const attempt = page.attempts[taskId] ?? 1;
  const isPlaced = status === "pending" && page.placed[taskId] === attempt;
  const placedFor = jobWaitsFor && FOR_MACHINES.includes(jobWaitsFor) ? jobWaitsFor : "scheduler";
  const reason = isPlaced ? placedFor : (page.waiting_for ?? jobWaitsFor);
  const why = reason && status === "pending" ? reasonWords(reason) : "";
  return {
    look: isPlaced ? "placed" : status,
    why,
    words: [
      `Task ${taskId}`,
      statusWords(status) + (why && `, ${why}`),
      `attempt ${attempt}`,
    ].join(" · "),
  };
}
