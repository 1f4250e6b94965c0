// @x402/express, charging by `exact` through the facilitator.
import express from "express";
import { listen, setting } from "./contract.mjs";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { paymentMiddleware, x402ResourceServer } from "@x402/express";
import { ExactSvmScheme } from "@x402/svm/exact/server";

const facilitator = new HTTPFacilitatorClient({ url: setting("X402_FACILITATOR") });
const server = new x402ResourceServer(facilitator).register("solana:*", new ExactSvmScheme());
const accepts = {
  scheme: "exact",
  network: setting("X402_NETWORK"),
  payTo: setting("X402_PAY_TO"),
  price: { asset: setting("X402_MINT"), amount: setting("X402_PRICE") },
  maxTimeoutSeconds: 60,
};
const app = express();
app.use(paymentMiddleware({ "GET /exact": { accepts, description: "the weather", mimeType: "text/plain" } }, server));
app.get("/exact", (_request, response) => response.type("text/plain").send("sunny"));
listen(app);
