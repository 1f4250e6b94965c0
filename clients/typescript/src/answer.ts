// What an answer to a paid request means.

import { Malformed } from "./bytes.js";
import { AgentError } from "./error.js";
import {
  MAX_BODY,
  PAYMENT_METER,
  PAYMENT_REQUIRED,
  PAYMENT_RESPONSE,
  type PaymentRequired,
  readHeader,
  readJson,
  readPaymentRequired,
  readReceipt,
  type Receipt,
} from "./wire.js";

/** What is known of a paid call once its answer's head is there. Waits in milliseconds. */
export type Outcome =
  /** Served and charged, as the receipt says. */
  | { readonly kind: "charged"; readonly receipt: Receipt }
  /** Served as a stream, which is paid for as it comes: the name of its meter. */
  | { readonly kind: "streams"; readonly meter: string }
  /** The handler failed, nothing was charged. */
  | { readonly kind: "not_charged" }
  /** An answer, but nothing that says whether it was charged. */
  | { readonly kind: "unclear" }
  /** The server refuses for now. Names a transaction that was sent and whose outcome is not known. */
  | { readonly kind: "refused"; readonly reason: string; readonly wait?: number; readonly transaction?: string }
  /** Somebody between did not get an answer. */
  | { readonly kind: "lost"; readonly wait?: number }
  /** Another payment is asked for. */
  | { readonly kind: "pay_again"; readonly required: PaymentRequired; readonly wait?: number };

/** The head of an answer. */
export type Head = Pick<Response, "status" | "headers">;

/** The receipt of a paid call: its `PAYMENT-RESPONSE` header, if there is one that can be read. */
export function receipt({ headers }: Pick<Response, "headers">): Receipt | undefined {
  const value = headers.get(PAYMENT_RESPONSE);
  try {
    return value === null ? undefined : readReceipt(readHeader(value));
  } catch (error) {
    if (error instanceof Malformed) return undefined;
    throw error;
  }
}

/** The name of a stream's meter, if there is one: 32 hexadecimal digits. */
export function meterOf({ headers }: Pick<Response, "headers">): string | undefined {
  const name = headers.get(PAYMENT_METER);
  return name !== null && /^[0-9a-f]{32}$/i.test(name) ? name : undefined;
}

/** How long the server asks to wait, in milliseconds, if it does so in seconds. */
function retryAfter({ headers }: Head): { wait?: number } {
  const value = headers.get("Retry-After");
  return value !== null && /^[0-9]{1,6}$/.test(value) ? { wait: Number(value) * 1_000 } : {};
}

/** What an answer says; of its body only a 402's is read. */
export async function outcomeOf(response: Response): Promise<Outcome> {
  const { status } = response;
  const [paid, wait] = [receipt(response), retryAfter(response)];
  // A server may refuse to settle with a 402 that asks for nothing.
  const asks = status === 402 && !(paid?.success === false && !response.headers.has(PAYMENT_REQUIRED));
  if (asks) return { kind: "pay_again", required: await requiredBy(response), ...wait };
  if (paid) return outcomeOfReceipt(paid, wait);
  const meter = meterOf(response);
  if (response.ok && meter !== undefined) return { kind: "streams", meter };
  if (status === 502 || status === 504) return { kind: "lost", ...wait };
  return { kind: status >= 400 && status < 500 ? "not_charged" : "unclear" };
}

/** What a receipt says. */
export function outcomeOfReceipt(paid: Receipt, wait: { wait?: number } = {}): Outcome {
  if (paid.success) return { kind: "charged", receipt: paid };
  const sent = paid.transaction === undefined ? {} : { transaction: paid.transaction };
  return { kind: "refused", reason: paid.reason ?? "unknown", ...wait, ...sent };
}

/** The offer of a 402: its header, or where that was dropped or hidden on the way, its body. */
export async function requiredBy(response: Response): Promise<PaymentRequired> {
  const value = response.headers.get(PAYMENT_REQUIRED);
  try {
    return readPaymentRequired(value === null ? readJson(await bodyOf(response)) : readHeader(value));
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    const why = `the server's 402 cannot be read (${error.message}): report it to whoever runs the server`;
    throw new AgentError("unreadable", why, { cause: error });
  }
}

/** A body as text, at most {@link MAX_BODY} bytes of it. */
async function bodyOf(response: Response): Promise<string> {
  const reader = response.body?.getReader();
  const decoder = new TextDecoder();
  let [text, length] = ["", 0];
  for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
    length += part.value.length;
    if (length > MAX_BODY) {
      await reader?.cancel();
      throw new Malformed("a body above 65,536 bytes");
    }
    text += decoder.decode(part.value, { stream: true });
  }
  return text + decoder.decode();
}
