// @x402/express with routes that declare themselves by @x402/extensions, charging by `exact` through the facilitator.
import express from "express";
import { listen, setting } from "./contract.mjs";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { paymentMiddleware, x402ResourceServer } from "@x402/express";
import { bazaarResourceServerExtension, declareDiscoveryExtension } from "@x402/extensions/bazaar";
import { ExactSvmScheme } from "@x402/svm/exact/server";

const facilitator = new HTTPFacilitatorClient({ url: setting("X402_FACILITATOR") });
const server = new x402ResourceServer(facilitator)
  .register("solana:*", new ExactSvmScheme())
  .registerExtension(bazaarResourceServerExtension);
const accepts = {
  scheme: "exact",
  network: setting("X402_NETWORK"),
  payTo: setting("X402_PAY_TO"),
  price: { asset: setting("X402_MINT"), amount: setting("X402_PRICE") },
  maxTimeoutSeconds: 60,
};
const about = { accepts, mimeType: "text/plain", serviceName: "Express Weather", tags: ["weather", "express"] };
const routes = {
  "GET /bazaar/weather": {
    ...about,
    description: "the weather of a city",
    extensions: declareDiscoveryExtension({
      input: { city: "Lisbon" },
      inputSchema: { properties: { city: { type: "string" } }, required: ["city"] },
      output: { example: { sky: "sunny" } },
    }),
  },
  "GET /bazaar/stations/[station]": {
    ...about,
    description: "the weather at a station",
    extensions: declareDiscoveryExtension({ input: {} }),
  },
};
const app = express();
app.use(paymentMiddleware(routes, server));
app.get("/bazaar/weather", (_request, response) => response.type("text/plain").send("sunny"));
app.get("/bazaar/stations/:station", (_request, response) => response.type("text/plain").send("sunny"));
listen(app);
