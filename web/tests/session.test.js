import assert from "node:assert/strict";
import { test } from "node:test";

import { sessionOf } from "../src/session.js";

test("a user with a list of projects sees those, in order", () => {
  const claims = { account: "acme", role: "user", projects: ["beta", "alpha"] };
  assert.deepEqual(sessionOf("ada@acme.example", claims).projects, ["alpha", "beta"]);
});

test("a user without the list, and every administrator, sees all projects", () => {
  for (const claims of [
    { account: "acme", role: "user" },
    { account: "acme", role: "admin", projects: ["alpha"] },
    { account: "acme", role: "owner", projects: [] },
  ]) {
    assert.equal(sessionOf("ada@acme.example", claims).projects, null);
  }
});

test("claims of the wrong kind give no account and no role", () => {
  const session = sessionOf("ada@acme.example", { account: ["acme"], role: 1 });
  assert.equal(session.accountId, "");
  assert.equal(session.role, "");
});
