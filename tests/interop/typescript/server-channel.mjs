// @x402/express with our scheme in it: @tallybook/x402 of clients/typescript.
import express from "express";
import { base58 } from "./keys.mjs";
import { listen, setting } from "./contract.mjs";
import { TallybookChannelServer } from "@tallybook/x402/server";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { paymentMiddleware, x402ResourceServer } from "@x402/express";

const url = setting("X402_FACILITATOR");
const channel = new TallybookChannelServer({
  facilitator: url,
  book: setting("X402_BOOK"),
  operator: base58(setting("X402_OPERATOR")),
  keepVouchersIn: `${setting("X402_VOUCHERS")}-of-express`,
});
const server = new x402ResourceServer(new HTTPFacilitatorClient({ url })).register("solana:*", channel);
const accepts = channel.accepts(setting("X402_NETWORK"), "$0.0005");
const app = express();
app.use(paymentMiddleware({ "GET /channel": { accepts }, "GET /broken": { accepts } }, server));
app.get("/channel", (_request, response) => response.type("text/plain").send("sunny"));
app.get("/broken", (_request, response) => response.status(500).send("broken"));
listen(app);
