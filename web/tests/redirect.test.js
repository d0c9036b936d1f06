import assert from "node:assert/strict";
import { test } from "node:test";

import { loopbackOf } from "../src/redirect.js";

for (const address of ["http://localhost:8085/index.html", "http://127.0.0.1:1/index.html"]) {
  test(`${address} is a client on this machine`, () => assert.equal(loopbackOf(address)?.href, address));
}

for (const address of [
  null,
  "",
  "index.html",
  "http://localhost/index.html",
  "https://localhost:8085/index.html",
  "http://localhost:8085/",
  "http://localhost:8085/other.html",
  "http://localhost:8085/index.html?to=elsewhere",
  "http://localhost:8085/index.html#part",
  "http://someone@localhost:8085/index.html",
  "http://localhost:8085@evil.example:8085/index.html",
  "http://127.0.0.1.evil.example:8085/index.html",
  "http://[::1]:8085/index.html",
  "javascript:alert(1)",
]) {
  test(`${address} is refused`, () => assert.equal(loopbackOf(address), null));
}
