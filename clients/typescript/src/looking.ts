// Asking the chain where a channel stands, also before a server's word on it is refused.

import type { Slot } from "./accounts.js";
import type { OwnChannel } from "./channel.js";
import { AgentError } from "./error.js";
import { type AgentState, sleep } from "./state.js";
import type { ChannelState, VoucherState } from "./wire.js";

/** So often the chain is asked for a claim that it may settle any moment: an endpoint is some slots behind another. */
const LOOKS = 6;
/** The wait before the second look; each further one is twice as long. */
const FIRST_WAIT_MILLISECONDS = 100;

/** A channel's slot as the chain has it; what is settled there is taken over. */
export async function see(agent: AgentState, channel: OwnChannel): Promise<Slot> {
  const slot = await agent.slotOf(channel);
  channel.see(slot);
  return slot;
}

/**
 * Takes over what a corrective answer says of a channel. One that is not believed by itself is held against the chain first, since
 * whatever is settled there is due; what nobody has signed for costs the server the channel.
 *
 * Where the chain cannot be asked, nothing is believed and nothing given up.
 */
export async function adopt(
  agent: AgentState,
  channel: OwnChannel,
  state: ChannelState,
  voucher: VoucherState | undefined,
): Promise<void> {
  let possible = await channel.adopt(state, voucher);
  for (let look = 0, wait = FIRST_WAIT_MILLISECONDS; look < LOOKS && possible !== undefined; look++) {
    if (look > 0) {
      if (!channel.maySettle(state)) break;
      await sleep(Math.min(wait, agent.limits.maxWait));
      wait *= 2;
    }
    await see(agent, channel);
    possible = await channel.adopt(state, voucher);
  }
  if (possible !== undefined && channel.phase.phase === "open") channel.phase = { phase: "given_up" };
  await agent.save(channel);
  if (possible !== undefined) throw dishonest(channel.id, state.chargedCumulativeAmount, possible);
}

/** The server claims what was never signed. */
export function dishonest(id: string, claimed: bigint, possible: bigint): AgentError {
  const why =
    `the server claims ${claimed} base units on channel ${id}, but at most ${possible} can be due: the channel was given up; ` +
    "force its close to get the rest back";
  return new AgentError("dishonest", why);
}
