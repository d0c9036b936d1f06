import assert from "node:assert/strict";
import { test } from "node:test";

import { routeOf } from "../src/router.js";

test("the list is at the root", () => assert.deepEqual(routeOf("/"), { page: "jobs" }));

test("the link that the clients print leads to the job", () => {
  assert.deepEqual(routeOf("/job/00001"), { page: "job", jobId: "00001" });
  assert.deepEqual(routeOf("/job/00001/"), { page: "job", jobId: "00001" });
});

test("anything else is no page", () => {
  for (const path of ["/job/", "/job/abc", "/job/1/2", "/farm"]) {
    assert.deepEqual(routeOf(path), { page: "unknown", path });
  }
});
