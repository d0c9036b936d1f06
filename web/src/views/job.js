import { html, nothing, render } from "lit-html";

import { watchJob } from "../queries/jobs.js";
import { asked, keep } from "../router.js";
import { jobSummary } from "./job_summary.js";
import { loading, notice, refusal } from "./notice.js";
import { openTaskGrid } from "./task_grid.js";
import { openTaskPanel } from "./task_panel.js";

/** @typedef {import("../queries/jobs.js").Job} Job */

/**
 * Show one job: its summary, its tasks as cells, and beside them the task that is open. Returns: stop().
 * @param {HTMLElement} root
 * @param {import("./shell.js").Context} context
 * @param {string} jobId
 */
export function openJob(root, { db, session }, jobId) {
  const where = { accountId: session.accountId, jobId };
  document.title = `Job ${jobId} · Baton`;
  /** @type {ReturnType<typeof openTaskGrid> | null} */
  let grid = null;
  /** @type {ReturnType<typeof openTaskPanel> | null} */
  let panel = null;
  /** @type {string | null} */
  let waitsFor = null;

  const closePanel = () => {
    panel?.stop();
    panel = null;
    keep("task", "");
    grid?.mark("");
  };
  const openTask = (/** @type {string} */ taskId) => {
    panel?.stop();
    const aside = /** @type {HTMLElement} */ (root.querySelector("aside"));
    panel = openTaskPanel(aside, db, { ...where, taskId }, () => {
      closePanel();
      grid?.focus(taskId);
    });
    panel.explain(waitsFor);
    keep("task", taskId);
    grid?.mark(taskId);
  };
  const show = (/** @type {Job} */ job, /** @type {boolean} */ isLive) => {
    waitsFor = job.waiting_for;
    document.title = `${job.job_id} ${job.status} · ${job.title} · Baton`;
    render(layout(job, isLive), root);
    if (!grid) {
      const tasks = /** @type {HTMLElement} */ (root.querySelector(".tasks"));
      grid = openTaskGrid(tasks, db, { ...where, taskCount: job.task_count }, openTask);
      if (asked("task")) {
        openTask(asked("task"));
        grid.reveal(asked("task"));
      }
    }
    grid.explain(waitsFor);
    panel?.explain(waitsFor);
  };
  const stopAll = () => {
    panel?.stop();
    stopJob();
    grid?.stop();
    grid = null;
  };

  render(loading(`Reading job ${jobId}…`), root);
  const stopJob = watchJob(
    db,
    where,
    (job, isLive) => {
      if (job) {
        show(job, isLive);
        return;
      }
      stopAll();
      render(notice(`There is no job ${jobId}`, "Your account has no job with this number."), root);
    },
    (error) => {
      stopAll();
      render(refusal(error, `Job ${jobId}`), root);
    },
  );
  return stopAll;
}

/**
 * @param {Job} job
 * @param {boolean} isLive
 */
function layout(job, isLive) {
  return html`
    <div class="job">
      <div class="job-main">
        ${jobSummary(job, isLive)}
        <section class="tasks" aria-label="Tasks"></section>
        ${job.task_count === 0 ? html`<p class="empty">This job has no tasks.</p>` : nothing}
      </div>
      <aside aria-label="Task" hidden></aside>
    </div>
  `;
}
