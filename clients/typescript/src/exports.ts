// What client and fetch share of what they show.

export { Agent, type ChannelReport } from "./agent.js";
export { receipt } from "./answer.js";
export type { Closed, Exit } from "./closing.js";
export { AgentError, type Breach, type ErrorCode, PolicyBreach } from "./error.js";
export {
  generateKeys,
  type KitKeyPairSigner,
  type KitTransactionSigner,
  type Signer,
  signerFrom,
  type SignerLike,
} from "./keys.js";
export type { Ask, Cluster, Policy } from "./policy.js";
export type { AgentOptions } from "./state.js";
export { browserStore, memoryStore, type Store } from "./store.js";
export type { ChannelParts, Voucher } from "./voucher.js";
export { type ChannelState, type Receipt, SCHEME } from "./wire.js";
