// Carrying a paid call to its server, as often as it takes.

import { outcomeOf, requiredBy } from "./answer.js";
import type { Call } from "./call.js";
import { AgentError } from "./error.js";
import { sleep } from "./state.js";
import { signOn } from "./stream.js";
import { type Beside, type ChannelPayload, payment, PAYMENT_SIGNATURE } from "./wire.js";

/** A payment that was made already. */
export interface Made extends Beside {
  readonly payload: ChannelPayload;
}

/** Sends `request` with payments of `call` until there is an answer or no more to try. `made` is the first attempt's, if it is made. */
export async function carry(
  call: Call,
  fetch: typeof globalThis.fetch,
  request: Request,
  made?: Made,
): Promise<Response> {
  let [cause, askedAfresh] = [undefined as unknown, false];
  while (made || call.attempts < call.agent.limits.attempts) {
    request.signal.throwIfAborted();
    let paying: Made;
    try {
      paying = made ?? (await call.named());
      made = undefined;
    } catch (error) {
      // The page that was remembered is full: another one is asked for.
      if (!(error instanceof AgentError && error.code === "no_free_slot") || askedAfresh) throw error;
      askedAfresh = true;
      const response = await fetch(request.clone());
      if (response.status !== 402) return response;
      await call.takeOffer(await requiredBy(response));
      continue;
    }
    const paid = request.clone();
    const { payload, ...beside } = paying;
    paid.headers.set(PAYMENT_SIGNATURE, payment(call.offer.raw, payload, beside));
    let response: Response;
    try {
      response = await fetch(paid);
    } catch (error) {
      call.lost();
      if (request.signal.aborted) throw error;
      cause = error;
      await sleep(call.backoff());
      continue;
    }
    const outcome = await outcomeOf(response);
    const next = await call.lookAt(outcome);
    if (next === "done") {
      if (outcome.kind === "streams") signOn(call, request, response, outcome.meter);
      return response;
    }
    await response.body?.cancel().catch(() => undefined);
    await sleep(next.again);
  }
  throw call.exhausted(cause);
}
