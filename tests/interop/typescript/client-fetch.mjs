// @x402/fetch with the `exact` scheme of @x402/svm, in whichever version of the protocol the server speaks.
import { base58, createKeyPairSignerFromBytes } from "./keys.mjs";
import { call, setting } from "./contract.mjs";
import { wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { ExactSvmScheme } from "@x402/svm/exact/client";
import { ExactSvmSchemeV1 } from "@x402/svm/exact/v1/client";

const signer = await createKeyPairSignerFromBytes(base58(setting("X402_PAYER")));
const config = { rpcUrl: setting("X402_RPC_URL") };
// The token of a local chain is none of the stablecoins that it knows, in either version's name of the network.
const allowedAssets = [setting("X402_NETWORK"), "solana-devnet"].map((network) => ({ network, asset: setting("X402_MINT") }));
const client = new x402Client()
  .register("solana:*", new ExactSvmScheme(signer, config))
  .registerV1("solana-devnet", new ExactSvmSchemeV1(signer, config))
  .setSpendControls({ allowedAssets });
await call(wrapFetchWithPayment(fetch, client));
