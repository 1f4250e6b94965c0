// x402-express 1.2.0, charging by `exact` through the facilitator: the first version of the protocol.
import express from "express";
import { listen, setting } from "./contract.mjs";
import { paymentMiddleware } from "x402-express";

const price = { amount: setting("X402_PRICE"), asset: { address: setting("X402_MINT"), decimals: 6 } };
const routes = { "GET /v1/exact": { price, network: "solana-devnet", config: { description: "the weather" } } };
const app = express();
app.use(paymentMiddleware(setting("X402_PAY_TO"), routes, { url: setting("X402_FACILITATOR") }));
app.get("/v1/exact", (_request, response) => response.type("text/plain").send("sunny"));
listen(app);
