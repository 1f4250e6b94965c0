import assert from "node:assert/strict";
import { test } from "node:test";
import { Pool } from "../../src/pool.js";

test("given a pool of two lanes when more want a turn then they wait in line, also whoever wants all of them", async () => {
  const pool = new Pool(2);
  const order: string[] = [];
  const [first, second] = [await pool.turn(), await pool.turn()];
  const all = pool.allTurns().then((lease) => (order.push("all"), lease));
  const third = pool.turn().then((lease) => (order.push("third"), lease));
  await new Promise((resolve) => setImmediate(resolve));
  first.leave();
  first.leave(); // once is enough
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(order, [], "one lane is still in use");
  second.leave();
  (await all).leave();
  (await third).leave();
  assert.deepEqual(order, ["all", "third"]);
  const handed = (await pool.turn()).handOver();
  const [rest] = [await pool.turn()];
  handed.leave();
  rest.leave();
  (await pool.allTurns()).leave();
});
