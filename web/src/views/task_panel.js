import { html, nothing, render } from "lit-html";

import "../elapsed.js";
import { grouped, moment, money, size } from "../format.js";
import { TASKS_PER_PAGE, watchPage } from "../queries/pages.js";
import { watchTask } from "../queries/tasks.js";
import { cellOf } from "../statuses.js";
import { copyable } from "./copyable.js";
import { fact } from "./job_summary.js";
import { loading } from "./notice.js";
import { badge } from "./status.js";

/**
 * Show one task beside the grid, live. Returns: how to say why the job waits, and stop(), which also takes it away.
 * @param {HTMLElement} root
 * @param {import("../queries/database.js").Database} db
 * @param {{accountId: string, jobId: string, taskId: string}} where
 * @param {() => void} onClose
 */
export function openTaskPanel(root, db, where, onClose) {
  const show = (/** @type {unknown} */ content) =>
    render(
      html`
        <header>
          <h2>Task ${where.taskId}</h2>
          <button class="close" aria-label="Close task ${where.taskId}" @click=${onClose}>✕</button>
        </header>
        ${content}
      `,
      root,
    );
  const closeByKey = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Escape") {
      onClose();
    }
  };

  /** @type {import("../queries/tasks.js").Task | null | undefined} */
  let task;
  /** @type {import("../queries/pages.js").Page | null} */
  let page = null;
  /** @type {string | null} */
  let jobWaitsFor = null;
  const showTask = () => {
    const why = page?.statuses[where.taskId] ? cellOf(page, where.taskId, jobWaitsFor).why : "";
    if (task !== undefined) {
      show(task ? details(task, why) : html`<p class="empty">There is no task ${where.taskId}.</p>`);
    }
  };
  const showProblem = (/** @type {Error} */ error) => show(html`<p class="problem" role="alert">${error.message}</p>`);

  root.hidden = false;
  root.ariaLabel = `Task ${where.taskId}`;
  show(loading("Reading the task…"));
  addEventListener("keydown", closeByKey);
  const stopTask = watchTask(
    db,
    where,
    (news) => {
      task = news;
      showTask();
    },
    showProblem,
  );
  const stopPage = watchPage(
    db,
    { ...where, number: Math.floor(Number(where.taskId) / TASKS_PER_PAGE) },
    (news) => {
      page = news;
      showTask();
    },
    showProblem,
  );
  return {
    explain(/** @type {string | null} */ waitsFor) {
      jobWaitsFor = waitsFor;
      showTask();
    },
    stop() {
      stopTask();
      stopPage();
      removeEventListener("keydown", closeByKey);
      render(null, root);
      root.hidden = true;
    },
  };
}

/**
 * @param {import("../queries/tasks.js").Task} task
 * @param {string} why
 */
function details(task, why) {
  const cost_micros = task.attempts.reduce((sum, attempt) => sum + attempt.cost_micros, 0);
  return html`
    <p class="state">
      ${badge(task.status)} ${task.is_scout ? html`<span class="tag">scout</span>` : nothing}
      ${why ? html`<span class="why">${why}</span>` : nothing}
    </p>
    <dl class="facts">
      ${fact("Frames", task.frames)} ${fact("Attempt", task.attempt)} ${fact("Cost", money(cost_micros))}
    </dl>
    <h3>Command</h3>
    <div class="command">${copyable(task.command)}</div>
    <h3>Attempts</h3>
    ${task.attempts.length === 0
      ? html`<p class="empty">No instance has started it yet.</p>`
      : html`<ol class="attempts">
          ${task.attempts.toReversed().map(attemptCard)}
        </ol>`}
  `;
}

/** @param {import("../queries/tasks.js").Attempt} attempt */
function attemptCard(attempt) {
  const minutes = `${grouped(attempt.billed_minutes)} min × ${money(attempt.price_micros_per_minute)}`;
  return html`
    <li>
      <p class="state">
        <b>#${attempt.number}</b> ${badge(attempt.outcome ?? "running")}
        <elapsed-time .from=${attempt.started_at} .until=${attempt.ended_at}></elapsed-time>
      </p>
      ${attempt.reason ? html`<p class="reason">${attempt.reason}</p>` : nothing}
      ${attempt.note ? html`<p class="note">${attempt.note}</p>` : nothing}
      <dl class="facts">
        ${fact("Instance", html`<code>${attempt.instance}</code>`)} ${fact("Zone", attempt.zone)}
        ${fact("Type", `${attempt.instance_type}${attempt.is_preemptible ? ", preemptible" : ""}`)}
        ${fact("Start", moment(attempt.started_at))}
        ${fact("End", attempt.ended_at ? moment(attempt.ended_at) : nothing)}
        ${fact("Exit code", attempt.exit_code ?? nothing)}
        ${fact("Billed", attempt.outcome ? `${minutes} = ${money(attempt.cost_micros)}` : nothing)}
        ${fact("Memory peak", attempt.memory_peak_mib ? size(attempt.memory_peak_mib * 2 ** 20) : nothing)}
        ${fact(
          "Outputs",
          attempt.output_count
            ? `${grouped(attempt.output_count)} files, ${size(attempt.output_bytes)}`
            : nothing,
        )}
      </dl>
    </li>
  `;
}
