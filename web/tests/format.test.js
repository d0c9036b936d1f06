import assert from "node:assert/strict";
import { test } from "node:test";

import { duration, money, size } from "../src/format.js";

for (const [micros, words] of [
  [0, "$0.00"],
  [1, "$0.000001"],
  [350, "$0.00035"],
  [4200, "$0.0042"],
  [20_750, "$0.0208"],
  [100_000, "$0.10"],
  [1_000_000, "$1.00"],
  [12_345_678, "$12.35"],
  [1_234_500_000, "$1,234.50"],
  [-4200, "-$0.0042"],
]) {
  test(`${micros} micro-dollars read ${words}`, () => assert.equal(money(micros), words));
}

for (const [seconds, words] of [
  [-5, "0s"],
  [0.9, "0s"],
  [59, "59s"],
  [60, "1m 00s"],
  [192, "3m 12s"],
  [7500, "2h 05m"],
  [273_600, "3d 4h"],
]) {
  test(`${seconds} seconds read ${words}`, () => assert.equal(duration(seconds * 1000), words));
}

for (const [bytes, words] of [
  [0, "0 B"],
  [1023, "1023 B"],
  [1536, "1.5 KiB"],
  [812 * 2 ** 20, "812 MiB"],
  [5 * 2 ** 40, "5.0 TiB"],
]) {
  test(`${bytes} bytes read ${words}`, () => assert.equal(size(bytes), words));
}
