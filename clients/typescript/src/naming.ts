// Naming payments (x402, `payment-identifier`), so that a request that has to be sent twice is done once.

import { fromBase58, hex, utf8 } from "./bytes.js";
import { sha256 } from "./keys.js";
import type { Voucher } from "./voucher.js";
import type { Beside, Json } from "./wire.js";

/** The extension's name. */
export const PAYMENT_IDENTIFIER = "payment-identifier";
/** The longest declaration of a server that is echoed, in characters of JSON: it goes back with every payment. */
const MAX_DECLARATION = 1_024;

/** What a server says of naming payments, if it lets them have names. */
export function namingIn(extensions: Json | undefined): Json | undefined {
  const naming = extensions?.[PAYMENT_IDENTIFIER];
  if (typeof naming !== "object" || naming === null || JSON.stringify(naming).length > MAX_DECLARATION) return undefined;
  return naming as Json;
}

/**
 * The name of the call that a voucher pays for: the same for as long as the same voucher is sent, and told by nobody who has not
 * seen it.
 */
export async function nameOf({ signature }: Voucher): Promise<string> {
  const hash = await sha256(utf8("tallybook:payment-identifier:v1"), fromBase58(signature, 64));
  return `tallybook_${hex(hash.subarray(0, 16))}`;
}

/** A server's declaration with the name of this payment added, as it goes back. */
export async function named(naming: Json | undefined, voucher: Voucher): Promise<Beside> {
  if (!naming) return {};
  const info = { ...(naming.info as Json | undefined), id: await nameOf(voucher) };
  return { extensions: { [PAYMENT_IDENTIFIER]: { ...naming, info } } };
}
