// Where an agent keeps what it must not forget: one text for each channel, and one for its budget.

import { AgentError } from "./error.js";

/**
 * What an agent keeps. One agent uses a store at a time.
 *
 * Before a deposit or a voucher leaves, the store has the most that it may have promised; so `save` returns only once the text
 * survives whatever the store is to survive.
 */
export interface Store {
  /** All texts by name. Called once, first. */
  load(): Promise<ReadonlyMap<string, string>>;
  /** Keeps a text under a name, in place of an older one. */
  save(name: string, text: string): Promise<void>;
  /** Lets go of the store, so that another agent can use it. */
  close?(): Promise<void>;
}

/**
 * Keeps everything in memory: for tests, and for programs that close their channels before they end. What is in a channel whose
 * record is lost comes back through `Agent.recover`, or from the payee.
 */
export function memoryStore(texts: Iterable<readonly [string, string]> = []): Store {
  const kept = new Map(texts);
  return {
    load: async () => kept,
    save: async (name, text) => void kept.set(name, text),
  };
}

/**
 * Keeps everything in the browser's IndexedDB, durably (strict transactions), in a database of this name. A Web Lock of the same
 * name keeps other tabs away while this one pays.
 */
export function browserStore(name = "tallybook"): Store {
  let database: IDBDatabase | undefined;
  let release: () => void = () => undefined;
  const opened = (): IDBDatabase => {
    if (!database) throw new AgentError("store", `the database ${name} is not open`);
    return database;
  };
  return {
    load: async () => {
      release = await lock(name);
      const opening = indexedDB.open(name, 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore("texts");
      database = await done(opening);
      const texts = database.transaction("texts").objectStore("texts");
      const [names, values] = await Promise.all([done(texts.getAllKeys()), done(texts.getAll() as IDBRequest<string[]>)]);
      return new Map(names.map((key, at) => [String(key), values[at] ?? ""]));
    },
    save: async (key, text) => {
      const transaction = opened().transaction("texts", "readwrite", { durability: "strict" });
      transaction.objectStore("texts").put(text, key);
      await new Promise<void>((resolve, reject) => {
        transaction.oncomplete = () => resolve();
        transaction.onabort = () => reject(transaction.error ?? new Error("the transaction was aborted"));
      });
    },
    close: async () => {
      database?.close();
      release();
    },
  };
}

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("IndexedDB failed"));
  });
}

/** Takes the lock of this name, and gives what releases it. */
function lock(name: string): Promise<() => void> {
  return new Promise((resolve, reject) => {
    const held = navigator.locks.request(`tallybook:${name}`, { ifAvailable: true }, (granted) => {
      if (granted) return new Promise<void>((release) => resolve(release));
      reject(new AgentError("store", `another tab pays from ${name}: close it, or give each a store of its own name`));
      return undefined;
    });
    held.catch(reject);
  });
}
