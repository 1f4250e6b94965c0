// Finding channels again whose record was lost: on chain, in the pages of a book.
//
// What they were charged is not on chain, but for what was claimed. So a channel that is found counts with its whole deposit, and may have promised all of
// it; before it pays or is closed the server is asked where it stands, and believed only under our own signature.

import { type Page, readPage, type Slot } from "./accounts.js";
import { pageAddress, PROGRAM } from "./address.js";
import { OwnChannel, type Phase } from "./channel.js";
import { AgentError } from "./error.js";
import type { Route } from "./policy.js";
import type { AgentState } from "./state.js";
import { confirm } from "./terms.js";
import { channelId } from "./voucher.js";
import type { Offer } from "./wire.js";

/** So many pages of a book are looked through, the newest. */
const MAX_PAGES = 4_096;

/** Finds the wallet's channels at the payee of an offer that are not known, and makes them known. */
export async function recover(agent: AgentState, route: Route, offer: Offer): Promise<OwnChannel[]> {
  agent.limits.checkHost(route);
  await agent.checkCluster();
  const { book } = await confirm(agent.rpc, agent.limits.policy.cluster, offer, offer.page, agent.wallet.address);
  const first = Math.max(0, book.nextPage - MAX_PAGES);
  const indices = Array.from({ length: book.nextPage - first }, (_, at) => first + at);
  const addresses = await Promise.all(indices.map((index) => pageAddress(offer.book, index)));
  const accounts = await agent.rpc.accounts(addresses);
  const found: OwnChannel[] = [];
  for (const [at, address] of addresses.entries()) {
    const account = accounts[at];
    // A page that was closed is gone for good; an index is never used again.
    if (account?.owner !== PROGRAM) continue;
    found.push(...(await inPage(agent, route, offer, address, readPage(account.data))));
  }
  return found;
}

async function inPage(agent: AgentState, route: Route, offer: Offer, address: string, page: Page): Promise<OwnChannel[]> {
  if (page.book !== offer.book) throw new AgentError("terms", "a page of the book is of another book: do not trust this server");
  const found: OwnChannel[] = [];
  for (const [at, slot] of page.slots.entries()) {
    if (slot.payer !== agent.wallet.address || slot.status === "free") continue;
    const { payer, signer, generation } = slot;
    const parts = { payer, signer, book: page.book, page: address, slot: at, generation };
    const id = await channelId(page.domain, parts);
    if (agent.channels.has(id)) continue;
    const pays = signer === agent.signer.address;
    const channel = new OwnChannel(id, parts, route.authority, route.url, route.method, offer, slot.deposit, phaseOf(slot, pays));
    channel.charged = channel.settled = slot.settled;
    channel.reserved = channel.ceiling = slot.deposit;
    channel.unsure = true;
    channel.usedAt = agent.clock();
    await agent.save(channel);
    agent.register(channel);
    found.push(channel);
  }
  return found;
}

function phaseOf(slot: Slot, pays: boolean): Phase {
  if (slot.status === "closing") return { phase: "closing", closing_at: slot.closingAt };
  return { phase: pays ? "open" : "given_up" };
}
