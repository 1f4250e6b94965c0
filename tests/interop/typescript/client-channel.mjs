// @x402/fetch with our scheme in it: @tallybook/x402 of clients/typescript.
import { base58, createKeyPairSignerFromBytes } from "./keys.mjs";
import { call, setting } from "./contract.mjs";
import { TallybookChannel } from "@tallybook/x402/client";
import { fileStore } from "@tallybook/x402/node";
import { wrapFetchWithPayment, x402Client } from "@x402/fetch";

const policy = {
  cluster: {
    network: setting("X402_NETWORK"),
    genesisHash: setting("X402_GENESIS_HASH"),
    mint: setting("X402_MINT"),
    rpc: setting("X402_RPC_URL"),
  },
  maxPrice: 10_000n,
  deposit: 1_000_000n,
  budget: 5_000_000n,
  allowHosts: [new URL(setting("X402_URL")).host],
};
const signer = await createKeyPairSignerFromBytes(base58(setting("X402_PAYER")));
const channel = new TallybookChannel(signer, policy, { store: fileStore(setting("X402_STATE")) });
const client = new x402Client().register("solana:*", channel).setSpendControls(false);
await call(wrapFetchWithPayment(channel.watch(fetch), client));
await channel.agent.shutdown();
