/**
 * What needs Node: an agent's store in a folder of files.
 *
 * @module
 */

import { constants } from "node:fs";
import { mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { AgentError } from "./error.js";
import type { Store } from "./store.js";

export { voucherFile } from "./server/vouchers.js";

/** Channels are kept in `.json`, of which the Rust agent reads every one; anything else is not. */
const CHANNEL_ID = /^[1-9A-HJ-NP-Za-km-z]{32,44}$/;
/** No file of ours is larger, in bytes. */
const MAX_FILE_BYTES = 65_536;

/**
 * Keeps each channel in a file of this folder, `CHANNEL_ID.json`, in the format of the Rust agent's state directory (which the
 * command line looks for under the wallet's address: `--state-dir FOLDER` is `FOLDER/ADDRESS`). A file is
 * replaced as a whole, and written through to the disk before `save` returns. A file `pid` names the process that uses the folder,
 * and keeps others on this machine out; one that died is taken over from.
 *
 * @example
 * ```ts
 * import { TallybookChannel } from "@tallybook/x402/client";
 * import { fileStore } from "@tallybook/x402/node";
 *
 * const channel = new TallybookChannel(signer, policy, { store: fileStore("./agent-state") });
 * ```
 */
export function fileStore(directory: string): Store {
  return {
    load: async () => {
      await mkdir(directory, { recursive: true, mode: 0o700 });
      await takeOver(join(directory, "pid"), directory);
      const files = (await readdir(directory)).map((file) => /^(.+)(?:\.json|\.text)$/.exec(file));
      const texts = files.flatMap((match) => {
        const [file = "", name = ""] = match ?? [];
        return match ? [read(join(directory, file)).then((text) => [name, text] as const)] : [];
      });
      return new Map(await Promise.all(texts));
    },
    save: async (name, text) => replace(directory, `${name}${CHANNEL_ID.test(name) ? ".json" : ".text"}`, text),
    close: async () => rm(join(directory, "pid"), { force: true }),
  };
}

async function read(path: string): Promise<string> {
  const bytes = await readFile(path);
  if (bytes.length > MAX_FILE_BYTES) throw new AgentError("store", `${path} is larger than any file of an agent`);
  return bytes.toString("utf8");
}

async function replace(directory: string, name: string, text: string): Promise<void> {
  const path = join(directory, name);
  const beside = `${path}.new`;
  const file = await open(beside, "w", 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(beside, path);
  const folder = await open(directory, constants.O_RDONLY);
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Writes our number into the file, unless a process that lives has its own there. */
async function takeOver(path: string, directory: string): Promise<void> {
  for (let attempt = 0; attempt < 2; attempt++) {
    try {
      const file = await open(path, "wx", 0o600);
      await file.writeFile(String(process.pid));
      await file.close();
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const owner = Number((await readFile(path, "utf8").catch(() => "")).trim());
    if (isAlive(owner)) {
      throw new AgentError("store", `process ${owner} pays from ${directory}: give each agent a folder of its own`);
    }
    await rm(path, { force: true });
  }
  throw new AgentError("store", `another process took ${directory} just now: give each agent a folder of its own`);
}

function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
