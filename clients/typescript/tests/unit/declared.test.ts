import assert from "node:assert/strict";
import { test } from "node:test";
import { declaredIn } from "../../src/declared.js";

const resource = { url: "https://api.example.com/weather" };

test("given what a 402 declares when it is small then it goes back whole, and nothing else does", () => {
  const bazaar = { info: { input: { type: "http", method: "GET" } }, schema: {}, routeTemplate: "/weather" };
  assert.deepEqual(declaredIn({ resource, extensions: { bazaar, other: {} } }), { resource, extensions: { bazaar } });
  for (const extensions of [undefined, {}, { bazaar: null }, { bazaar: "x" }, { bazaar: { info: "x".repeat(3_000) } }]) {
    assert.equal(declaredIn({ resource, extensions }), undefined);
  }
  assert.equal(declaredIn({ resource: undefined, extensions: { bazaar } }), undefined);
});
