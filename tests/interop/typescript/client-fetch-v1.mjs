// x402-fetch 1.2.0: the first version of the protocol.
import { call, setting } from "./contract.mjs";
import { createSigner, wrapFetchWithPayment } from "x402-fetch";

const signer = await createSigner("solana-devnet", setting("X402_PAYER"));
const config = { svmConfig: { rpcUrl: setting("X402_RPC_URL") } };
await call(wrapFetchWithPayment(fetch, signer, undefined, undefined, config));
