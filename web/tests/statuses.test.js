import assert from "node:assert/strict";
import { test } from "node:test";

import { cellOf, doneCount, presentCounts } from "../src/statuses.js";

const page = {
  statuses: { "000": "running", "001": "pending", "002": "pending", "003": "success" },
  attempts: { "000": 2, "001": 1, "002": 3, "003": 1 },
  placed: { "000": 2, "001": 1, "002": 2 },
  waiting_for: "stock_out",
};

test("a cell names the task, its status and its attempt", () => {
  const cell = { look: "running", why: "", words: "Task 000 · running · attempt 2" };
  assert.deepEqual(cellOf(page, "000", "boot"), cell);
});

test("a pending task whose present attempt was handed over waits at the scheduler", () => {
  const cell = {
    look: "placed",
    why: "at the scheduler",
    words: "Task 001 · pending, at the scheduler · attempt 1",
  };
  assert.deepEqual(cellOf(page, "001", "limit"), cell);
});

test("one whose earlier attempt was handed over waits for the reason of its page", () => {
  const cell = {
    look: "pending",
    why: "no machines in stock",
    words: "Task 002 · pending, no machines in stock · attempt 3",
  };
  assert.deepEqual(cellOf(page, "002", "limit"), cell);
});

test("while machines boot for the job, what was handed over waits for its machine", () => {
  assert.equal(cellOf(page, "001", "boot").words, "Task 001 · pending, machine is booting · attempt 1");
});

test("where no machine can be had, what was handed over waits for that", () => {
  assert.equal(cellOf(page, "001", "stock_out").words, "Task 001 · pending, no machines in stock · attempt 1");
});

test("a page without a reason of its own has the job's", () => {
  const words = cellOf({ ...page, waiting_for: undefined }, "002", "limit").words;
  assert.equal(words, "Task 002 · pending, limit reached · attempt 3");
});

test("a reason that is new to the dashboard is shown as it is", () => {
  const words = cellOf({ ...page, waiting_for: "solar_flare" }, "002", null).words;
  assert.equal(words, "Task 002 · pending, solar flare · attempt 3");
});

test("counts come in the order of the bar, without those that are zero", () => {
  const counts = { failed: 1, success: 3, running: 0, downloaded: 2 };
  assert.deepEqual(
    presentCounts(counts).map(({ status }) => status),
    ["downloaded", "success", "failed"],
  );
  assert.equal(doneCount(counts), 5);
});
