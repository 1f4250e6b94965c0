// A server built on `@x402/express` that charges by the scheme of this package.

import { HTTPFacilitatorClient } from "@x402/core/server";
import { paymentMiddleware, setSettlementOverrides, x402ResourceServer } from "@x402/express";
import express from "express";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import type { Server } from "node:http";
import { join } from "node:path";
import { TallybookChannelServer, type ServerOptions } from "../src/server.js";
import type { Ground } from "./ground.js";

/** The running shop. */
export class Shop {
  /** How often handlers have run. */
  readonly served: string[] = [];

  private constructor(
    readonly server: Server,
    readonly channel: TallybookChannelServer,
    readonly vouchers: string,
    readonly url: string,
  ) {}

  static async open(ground: Ground, options: Partial<ServerOptions> = {}): Promise<Shop> {
    const { facilitator: url, book, network } = ground.report;
    const vouchers = join(ground.folder, `vouchers-${Math.random().toString(36).slice(2)}.jsonl`);
    const operator = await ground.secret("operator");
    const channel = new TallybookChannelServer({ facilitator: url, book, operator, keepVouchersIn: vouchers, ...options });
    const core = new x402ResourceServer(new HTTPFacilitatorClient({ url })).register("solana:*", channel);
    const net = network as `${string}:${string}`;
    const accepts = channel.accepts(net, "$0.0005");
    const app = express();
    app.set("etag", false);
    app.use((_request, response, next) => {
      response.set("Access-Control-Allow-Origin", "*");
      response.set("Access-Control-Allow-Headers", "*, PAYMENT-SIGNATURE, Access-Control-Expose-Headers, Content-Type");
      response.set("Access-Control-Expose-Headers", "PAYMENT-REQUIRED, PAYMENT-RESPONSE, PAYMENT-METER");
      next();
    });
    app.options("/{*path}", (_request, response) => void response.sendStatus(204));
    app.use(
      paymentMiddleware(
        {
          "GET /fixed": { accepts },
          "POST /fixed": { accepts },
          "GET /fails": { accepts },
          "GET /slow": { accepts },
          "GET /named": { accepts, extensions: { "payment-identifier": { info: { required: true }, schema: {} } } },
          "GET /metered": { accepts: channel.acceptsUpTo(net, "$0.001") },
        },
        core,
      ),
    );
    const shop: Shop = new Shop(app.listen(0, "127.0.0.1"), channel, vouchers, "");
    const note = (path: string): void => void shop.served.push(path);
    app.get("/fixed", (_request, response) => {
      note("/fixed");
      response.json({ weather: "sunny" });
    });
    app.post("/fixed", express.text(), (request, response) => {
      note("/fixed");
      response.json({ echo: String(request.body) });
    });
    app.get("/fails", (_request, response) => {
      note("/fails");
      response.status(404).json({ error: "no such thing" });
    });
    app.get("/named", (_request, response) => void response.json({ named: true }));
    app.get("/slow", (_request, response) => {
      note("/slow");
      setTimeout(() => response.json({ slow: true }), 300);
    });
    app.get("/metered", (request, response) => {
      note("/metered");
      setSettlementOverrides(response, { amount: String(request.query.cost ?? "300") });
      response.json({ metered: true });
    });
    await once(shop.server, "listening");
    const { port } = shop.server.address() as AddressInfo;
    return Object.assign(shop, { url: `http://127.0.0.1:${port}` });
  }

  async close(): Promise<void> {
    const closed = once(this.server, "close");
    this.server.close();
    this.server.closeAllConnections();
    await closed;
    await this.channel.close();
  }
}
