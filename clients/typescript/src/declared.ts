// What a 402 declares to catalogues (x402, `bazaar`), sent back once, so that a facilitator can list what was paid for.

import type { Beside, Json, PaymentRequired } from "./wire.js";

/** The extension's name. */
export const BAZAAR = "bazaar";
/** The longest that is sent back, in characters of JSON: with a deposit's transaction there is still room in a header. */
const MAX_ECHO = 2_560;

/** What goes back with the next payment of a route, if its 402 declares something of a size that can. */
export function declaredIn({ resource, extensions }: Pick<PaymentRequired, "resource" | "extensions">): Beside | undefined {
  const extension = extensions?.[BAZAAR];
  if (!resource || typeof extension !== "object" || extension === null) return undefined;
  const beside = { resource, extensions: { [BAZAAR]: extension as Json } };
  return JSON.stringify(beside).length > MAX_ECHO ? undefined : beside;
}
