import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { appendFile, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { AgentError } from "../../src/error.js";
import { fileStore, voucherFile } from "../../src/node.js";

const folder = await mkdtemp(join(tmpdir(), "tallybook-stores-"));
after(() => rm(folder, { recursive: true }));

test("given a folder when texts are saved and read again then the newest are there, private, and of one process", async () => {
  const directory = join(folder, "state");
  const store = fileStore(directory);
  assert.equal((await store.load()).size, 0);
  const id = "91GzT2231YGTdNT3ELZWvob1GHjGgSwTBvFiFdDBJm2V";
  await store.save(id, "1");
  await store.save(id, "2");
  await store.save("budget", "3");
  assert.equal((await stat(directory)).mode & 0o777, 0o700);
  assert.equal((await stat(join(directory, `${id}.json`))).mode & 0o777, 0o600);
  await assert.rejects(fileStore(directory).load(), (error) => error instanceof AgentError && error.code === "store");
  await store.close?.();
  // What a crash left half written is not read.
  await writeFile(join(directory, "c.json.new"), "{ half");
  assert.deepEqual(Object.fromEntries(await fileStore(directory).load()), { [id]: "2", budget: "3" });
});

test("given a folder whose process died when it is opened then it is taken over", async () => {
  const directory = join(folder, "died");
  await fileStore(directory).load();
  const child = spawn("true");
  await once(child, "exit");
  await writeFile(join(directory, "pid"), String(child.pid));
  await fileStore(directory).load();
  assert.equal(await readFile(join(directory, "pid"), "utf8"), String(process.pid));
});

test("given vouchers when the server starts again then the largest of each channel and the newest charge are there", async () => {
  const path = join(folder, "vouchers.jsonl");
  const voucher = (channelId: string, amount: bigint, charged: bigint) => ({
    voucher: { channelId, maxClaimableAmount: amount.toString(), signature: "s" },
    charged,
  });
  const keeper = voucherFile(path);
  await Promise.all([voucher("a", 100n, 10n), voucher("a", 60n, 30n), voucher("a", 80n, 30n), voucher("b", 5n, 5n)].map(keeper.keep));
  await keeper.close?.();
  assert.equal((await readFile(path, "utf8")).split("\n").length, 4, "what changes nothing is not written");
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  await appendFile(path, '{"voucher":{"channelId":"cut');
  const again = voucherFile(path);
  assert.deepEqual(await again.of("a"), voucher("a", 100n, 30n));
  await again.keep(voucher("c", 7n, 7n));
  const other = voucherFile(path);
  assert.deepEqual(await other.of("c"), voucher("c", 7n, 7n));
  await other.close?.();
  for (let amount = 1n; amount <= 5_000n; amount++) await again.keep(voucher("d", amount, amount));
  assert.ok((await readFile(path, "utf8")).split("\n").length < 4_200, "it is rewritten with the newest alone");
  await again.close?.();
  const last = voucherFile(path);
  assert.deepEqual(await last.of("d"), voucher("d", 5_000n, 5_000n));
  await last.close?.();
});
